//! The wake-up: what travels over RabbitMQ.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde::{Deserialize, Serialize};

use crate::job::{Class, JobId};

/// The version this program writes and reads.
const VERSION: u8 = 1;
const TRACEPARENT: &str = "traceparent";
const PERSISTENT: u8 = 2;

/// Says that a job may be ready to be claimed. Carries no authority: the claim decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeUp {
    /// Version of this message.
    v: u8,
    /// Which job.
    pub job_id: JobId,
    /// The attempt that is to follow.
    pub attempt: i32,
    /// Which line it stands in.
    pub class: Class,
    /// Tile-steps; 0 from a coordinator that did not count them.
    pub cost: i64,
}

/// A wake-up with its trace context, which travels in the message's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The message.
    pub wake_up: WakeUp,
    /// W3C trace context of the submission.
    pub traceparent: Option<String>,
}

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Not JSON, or not a wake-up.
    #[error("not a wake-up")]
    Malformed(#[from] serde_json::Error),
    /// From a later program.
    #[error("a wake-up of version {0}, this program reads version {VERSION}")]
    UnknownVersion(u8),
}

impl WakeUp {
    /// A wake-up of the current version.
    #[must_use]
    pub fn new(job_id: JobId, attempt: i32, class: Class, cost: i64) -> Self {
        Self {
            v: VERSION,
            job_id,
            attempt,
            class,
            cost,
        }
    }
}

impl Envelope {
    pub(super) fn to_message(&self) -> (Vec<u8>, BasicProperties) {
        let payload = serde_json::to_vec(&self.wake_up).expect("a wake-up is plain data");
        let mut headers = FieldTable::default();
        if let Some(traceparent) = &self.traceparent {
            headers.insert(
                TRACEPARENT.into(),
                AMQPValue::LongString(traceparent.as_str().into()),
            );
        }
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_content_type("application/json".into())
            .with_message_id(self.wake_up.job_id.to_string().into())
            .with_headers(headers);
        (payload, properties)
    }

    pub(super) fn from_message(
        payload: &[u8],
        properties: &BasicProperties,
    ) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u8,
        }
        let Versioned { v } = serde_json::from_slice(payload)?;
        if v != VERSION {
            return Err(MessageError::UnknownVersion(v));
        }
        let headers = properties.headers().as_ref().map(FieldTable::inner);
        let traceparent = headers.and_then(|headers| match headers.get(TRACEPARENT) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        });
        Ok(Self {
            wake_up: serde_json::from_slice(payload)?,
            traceparent,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope() -> Envelope {
        let job_id = "01938e2a-7b3c-7def-8000-0123456789ab".parse().unwrap();
        Envelope {
            wake_up: WakeUp::new(job_id, 2, Class::Bulk, 147),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
        }
    }

    #[test]
    fn the_wire_form_is_stable() {
        let (payload, _) = envelope().to_message();
        assert_eq!(
            String::from_utf8(payload).unwrap(),
            r#"{"v":1,"job_id":"01938e2a-7b3c-7def-8000-0123456789ab","attempt":2,"class":"bulk","cost":147}"#
        );
    }

    #[test]
    fn a_message_survives_a_round_trip_with_its_trace() {
        let (payload, properties) = envelope().to_message();
        assert_eq!(
            Envelope::from_message(&payload, &properties).unwrap(),
            envelope()
        );
    }

    #[test]
    fn a_message_of_a_later_version_is_told_from_a_broken_one() {
        let properties = BasicProperties::default();
        let later = Envelope::from_message(br#"{"v":2,"anything":true}"#, &properties);
        assert!(matches!(later, Err(MessageError::UnknownVersion(2))));
        let broken = Envelope::from_message(b"hello", &properties);
        assert!(matches!(broken, Err(MessageError::Malformed(_))));
    }
}
