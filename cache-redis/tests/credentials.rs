//! Who we are and what we may do: refusals are told from weather, and a refusal ends when a person has mended it.

mod common;

use cache_core::{Claim, ErrorKind, RemoteTier, Result, Token};
use cache_redis::RedisTier;
use common::{AMPLE, HOUR, Raw, asks, driven, fills, invalidation, key, until, until_back};
use test_servers::Redis;

fn url(redis: &Redis, credentials: &str) -> String {
    format!("redis://{credentials}@127.0.0.1:{}/", redis.port())
}

async fn refusal(url: &str) -> ErrorKind {
    connect(url).await.expect_err("a refusal").kind()
}

async fn connect(url: &str) -> Result<RedisTier> {
    driven(RedisTier::builder(url)).timeout(AMPLE).connect_timeout(AMPLE).connect().await
}

#[tokio::test]
async fn refused_credentials_fail_connect() {
    let redis = Redis::builder().password("right").start();
    for wrong in [":wrong", "default:wrong", "nobody:right", "nobody"] {
        assert_eq!(refusal(&url(&redis, wrong)).await, ErrorKind::Credentials, "{wrong}");
    }
    assert_eq!(refusal(&redis.url()).await, ErrorKind::Credentials, "no password where one is needed");
    assert!(connect(&url(&redis, ":right")).await.unwrap().get(&key()).await.is_ok());
    assert!(connect(&url(&redis, "default:right")).await.unwrap().get(&key()).await.is_ok());

    let open = Redis::start();
    assert_eq!(refusal(&url(&open, ":password")).await, ErrorKind::Credentials, "a password where none is known");
}

#[tokio::test]
async fn a_user_who_may_not_run_scripts_is_refused_at_connect_and_one_without_a_key_s_permission_at_the_call() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&["ACL", "SETUSER", "reader", "on", ">pw", "~*", "+get", "+mget", "+time", "+client"]).await;
    raw.run::<()>(&["ACL", "SETUSER", "stranger", "on", ">pw", "~other*", "+@all"]).await;
    assert_eq!(refusal(&url(&redis, "reader:pw")).await, ErrorKind::Credentials);
    let stranger = connect(&url(&redis, "stranger:pw")).await.unwrap();
    assert_eq!(stranger.get(&key()).await.unwrap_err().kind(), ErrorKind::Credentials);
}

#[tokio::test]
async fn a_read_that_a_script_is_refused_is_an_error_and_not_taken_for_something_foreign() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    raw.run::<()>(&["ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-getrange"]).await;
    let (tier, key) = (connect(&url(&redis, "blind:pw")).await.unwrap(), key());
    assert!(tier.acquire(&key, &asks(Token::unique(), Claim::Stale)).await.is_err());
    assert!(tier.fill(&key, &fills(&key, Token::unique(), "x")).await.is_err());
    assert!(tier.release(&key, Token::unique()).await.is_err());
    assert!(tier.invalidate(&[invalidation(&key)], HOUR, None).await.is_err());
    assert!(tier.remaining(&key).await.is_err());
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_a_wrong_configuration() {
    let redis = Redis::start();
    let err = connect(&format!("{}99", redis.url())).await.unwrap_err();
    assert_eq!(err.kind(), ErrorKind::Config);
    assert!(err.to_string().contains("database"), "{err}");
}

#[tokio::test]
async fn the_database_of_the_url_is_the_one_used() {
    let redis = Redis::start();
    let raw = Raw::connect(&redis.url()).await;
    let tier = connect(&format!("{}3", redis.url())).await.unwrap();
    tier.invalidate(&[invalidation(&key())], HOUR, None).await.unwrap();
    assert_eq!(raw.run::<u64>(&["DBSIZE"]).await, 0);
    assert!(raw.run::<String>(&["INFO", "keyspace"]).await.contains("db3:keys=1"));
}

#[tokio::test]
async fn credentials_refused_later_fail_calls_with_their_kind_until_they_are_right_again() {
    let redis = Redis::builder().password("right").start();
    let raw = Raw::connect(&url(&redis, ":right")).await;
    let tier = connect(&url(&redis, ":right")).await.unwrap();
    raw.run::<()>(&["CONFIG", "SET", "requirepass", "changed"]).await;
    raw.run::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let refused = async || tier.get(&key()).await.is_err_and(|err| err.kind() == ErrorKind::Credentials);
    until("the refusal shows", refused).await;
    raw.run::<()>(&["CONFIG", "SET", "requirepass", "right"]).await;
    until_back(&tier).await;
}

#[tokio::test]
async fn a_lazy_tier_s_first_call_tells_that_its_credentials_are_refused() {
    let redis = Redis::builder().password("right").start();
    let tier = driven(RedisTier::builder(&url(&redis, ":wrong"))).timeout(AMPLE).lazy().unwrap();
    assert_eq!(tier.get(&key()).await.unwrap_err().kind(), ErrorKind::Credentials);
}
