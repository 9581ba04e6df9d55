//! The coordinator's door, as the worker sees it.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use upres_common::broker::WakeUp;
use upres_common::lease::{
    AboutWorker, Beat, ClaimAnswer, ClaimRequest, CompleteRequest, FailRequest, HeartbeatAnswer,
    HeartbeatRequest, Lease, ReleaseRequest, SettledAnswer, Verdict,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A claim or a heartbeat that takes longer is tried again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A publication waits for the object store.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(300);

/// A client of `/v1/leases`.
#[derive(Debug, Clone)]
pub(crate) struct Coordinator {
    client: Client,
    api_url: String,
    api_key: SecretString,
    worker_id: String,
}

/// Why a call got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Down, restarting, or cut off. Try again.
    #[error("the coordinator does not answer")]
    Away(#[source] reqwest::Error),
    /// It answered, but not now. Try again.
    #[error("the coordinator answered {0}")]
    NotNow(StatusCode),
    /// It will not answer this, however often it is asked.
    #[error("the coordinator refused with {status}: {detail}")]
    Refused {
        /// 401 and 403: the key; 400 and 422: another version of the program.
        status: StatusCode,
        /// In its words.
        detail: String,
    },
}

impl Coordinator {
    pub(crate) fn new(
        api_url: &str,
        api_key: SecretString,
        worker_id: String,
    ) -> reqwest::Result<Self> {
        let client = Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        let api_url = api_url.trim_end_matches('/').to_owned();
        Ok(Self {
            client,
            api_url,
            api_key,
            worker_id,
        })
    }

    /// Claims one job; `None`: the wake-up was stale.
    pub(crate) async fn claim(&self, wake_up: &WakeUp) -> Result<Option<Lease>, CallError> {
        let request = ClaimRequest {
            worker_id: self.worker_id.clone(),
            job_ids: vec![wake_up.job_id],
            class: wake_up.class,
        };
        let answer: ClaimAnswer = self.call("claim", &request, ANSWER_TIMEOUT).await?;
        Ok(answer.leases.into_iter().next())
    }

    /// Renews one lease.
    pub(crate) async fn heartbeat(&self, beat: Beat) -> Result<Verdict, CallError> {
        let request = HeartbeatRequest {
            worker_id: self.worker_id.clone(),
            leases: vec![beat],
            about: None,
        };
        let answer: HeartbeatAnswer = self.call("heartbeat", &request, ANSWER_TIMEOUT).await?;
        Ok(answer.verdicts.first().copied().unwrap_or(Verdict::Lost))
    }

    /// Says that this worker is here.
    pub(crate) async fn introduce(&self, about: AboutWorker) -> Result<(), CallError> {
        let request = HeartbeatRequest {
            worker_id: self.worker_id.clone(),
            leases: Vec::new(),
            about: Some(about),
        };
        let _: HeartbeatAnswer = self.call("heartbeat", &request, ANSWER_TIMEOUT).await?;
        Ok(())
    }

    pub(crate) async fn complete(
        &self,
        request: &CompleteRequest,
    ) -> Result<SettledAnswer, CallError> {
        self.call("complete", request, PUBLISH_TIMEOUT).await
    }

    pub(crate) async fn fail(&self, request: &FailRequest) -> Result<SettledAnswer, CallError> {
        self.call("fail", request, ANSWER_TIMEOUT).await
    }

    pub(crate) async fn release(
        &self,
        request: &ReleaseRequest,
    ) -> Result<SettledAnswer, CallError> {
        self.call("release", request, ANSWER_TIMEOUT).await
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        verb: &str,
        request: &Q,
        timeout: Duration,
    ) -> Result<A, CallError> {
        let answer = self
            .client
            .post(format!("{}/v1/leases/{verb}", self.api_url))
            .bearer_auth(self.api_key.expose_secret())
            .timeout(timeout)
            .json(request)
            .send()
            .await
            .map_err(CallError::Away)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(CallError::Away);
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(CallError::NotNow(status));
        }
        let detail = answer.text().await.unwrap_or_default();
        Err(CallError::Refused { status, detail })
    }
}
