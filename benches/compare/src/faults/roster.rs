//! The subjects, each told to give up after the same time.

use std::time::Duration;

use cachestack::RedisTier;
use fred::prelude::{Builder, Config, ReconnectPolicy};
use redis::aio::ConnectionManagerConfig;
use redis::cluster::ClusterClientBuilder;

use crate::error::Error;
use crate::remote::{ClusterClient, Failure, FredClient, ManagedConnection, OursRemote, fred_cluster_url};

use super::OURS;
use super::caller::trial;
use super::fault::Fault;
use super::stack;
use super::trial::{self, Course, Span, Trial};

/// Of every call.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(50);
/// Of every dial, of those that can be told.
const DIAL: Duration = Duration::from_millis(200);

const DRIVER: &str = "redis";
const FRED: &str = "fred";
/// A whole cache.
pub(crate) const STACK: &str = "cachestack-stack";
pub(crate) const NAMES: [&str; 4] = [OURS, STACK, DRIVER, FRED];

/// Of a cache only one server breaks, and nobody floods it: it writes what it loads.
pub(crate) fn takes_part(name: &str, fault: Fault) -> bool {
    name != STACK || !matches!(fault, Fault::Flooded | Fault::DeadMaster)
}

/// Takes one subject through a fault, with servers and a runtime of its own.
pub(crate) fn undergo(name: &'static str, fault: Fault, span: Span) -> Result<Trial, Error> {
    let (bed, runtime) = trial::prepare(fault)?;
    let outcome = runtime.block_on(undergo_on(name, Course { bed, fault, span }));
    // What hangs is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome.map_err(|source| Error::Client { work: fault.name(), subject: name, source })
}

async fn undergo_on(name: &str, course: Course) -> Result<Trial, Failure> {
    let fault = course.fault;
    let urls = course.bed.urls(fault);
    match (name, fault.is_of_cluster()) {
        (OURS, cluster) => {
            let builder = if cluster { RedisTier::cluster(urls) } else { RedisTier::builder(&urls[0]) };
            trial(OursRemote::connect(builder, TIMEOUT).await?, course).await
        }
        (STACK, _) => stack::trial(&urls[0], course).await,
        (DRIVER, false) => {
            let config = ConnectionManagerConfig::new()
                .set_response_timeout(Some(TIMEOUT))
                .set_connection_timeout(Some(DIAL))
                .set_min_delay(Duration::from_millis(10))
                .set_max_delay(Duration::from_millis(250))
                .set_number_of_retries(2);
            let manager = redis::Client::open(&*urls[0])?.get_connection_manager_with_config(config).await?;
            trial(ManagedConnection::new(manager), course).await
        }
        (DRIVER, true) => {
            let builder = ClusterClientBuilder::new(urls)
                .response_timeout(TIMEOUT)
                .overall_response_timeout(Some(TIMEOUT))
                .connection_timeout(DIAL)
                .retries(2)
                .min_retry_wait(5)
                .max_retry_wait(20);
            trial(ClusterClient::new(builder.build()?.get_async_connection().await?), course).await
        }
        (_, cluster) => {
            let url = if cluster { fred_cluster_url(&urls) } else { urls[0].clone() };
            let mut policy = ReconnectPolicy::new_constant(0, 50);
            policy.set_jitter(10);
            let mut builder = Builder::from_config(Config::from_url(&url)?);
            builder.set_policy(policy).with_performance_config(|config| config.default_command_timeout = TIMEOUT);
            builder.with_connection_config(|config| {
                config.connection_timeout = DIAL;
                config.internal_command_timeout = DIAL;
                // In a cluster a redirect uses an attempt up.
                config.max_command_attempts = if cluster { 3 } else { 1 };
            });
            trial(FredClient::connect(builder.build()?).await?, course).await
        }
    }
}
