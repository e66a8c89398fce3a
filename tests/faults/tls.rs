//! A server that cannot prove who it is: it is told nothing, and requests go on without it.

use crate::{AMPLE, Raw, doubling, until};
use cachestack::{ErrorKind, RedisTier, Tier};
use test_servers::{CertificateAuthority, Redis};

#[tokio::test]
async fn h4_behind_a_certificate_that_has_expired_or_is_another_s_the_stack_serves_from_the_origin_and_tells_redis_nothing() {
    const PASSWORD: &str = "canary-5f3759df";
    let authority = CertificateAuthority::new();
    for refused in [authority.issue_expired(), authority.issue_for("example.org"), CertificateAuthority::new().issue()] {
        let redis = Redis::builder().password(PASSWORD).tls(&refused).start();
        let url = redis.tls_url().replace("//", &format!("//:{PASSWORD}@"));
        let builder = || RedisTier::builder(&url).tls_roots(authority.pem().as_bytes()).timeout(AMPLE).connect_timeout(AMPLE);
        assert_eq!(builder().connect().await.unwrap_err().kind(), ErrorKind::Config);
        let cache = doubling(builder().lazy().unwrap());
        for key in 0..10 {
            let loaded = cache.load_cached(&key).await.unwrap();
            assert_eq!((loaded.value, loaded.tier), (key * 2, Tier::Origin));
        }
        let err = cache.get_cached(&1).await.unwrap_err();
        assert_eq!(err.kind(), ErrorKind::Config);
        assert!(!format!("{err} {err:?}").contains("canary"), "{err:?}");
        assert_eq!(cache.invalidate(&1).await.unwrap_err().kind(), ErrorKind::Config, "which nobody may take for done");

        let raw = Raw::connect(&format!("redis://:{PASSWORD}@127.0.0.1:{}/", redis.port())).await;
        assert_eq!(raw.run::<u64>(&["DBSIZE"]).await, 0);
        raw.run::<()>(&["CONFIG", "RESETSTAT"]).await;
        assert!(cache.get_cached(&1).await.is_err());
        assert!(!raw.run::<String>(&["INFO", "commandstats"]).await.contains("cmdstat_auth"), "nor is it ever asked in plain");

        redis.set_certificate(&authority.issue());
        until("the renewed one is accepted", async || cache.invalidate(&1).await.is_ok()).await;
        cache.load(&1).await.unwrap();
        assert_eq!(cache.load_cached(&1).await.unwrap().tier, Tier::L2);
    }
}
