//! Signatures: HMAC-SHA256 over id, time and body, one for each secret in force.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const SECRET_BYTES: usize = 32;

/// What a tenant's deliveries are signed with.
pub struct Secret(pub Vec<u8>);

impl Secret {
    /// A fresh one.
    #[must_use]
    pub fn fresh() -> Self {
        let mut bytes = vec![0; SECRET_BYTES];
        getrandom::fill(&mut bytes).expect("the operating system hands out randomness");
        Self(bytes)
    }
}

/// `whsec_` and base64, as receivers' libraries expect it.
impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "whsec_{}", STANDARD.encode(&self.0))
    }
}

/// The `webhook-signature` header: a signature for each secret, separated by spaces. A receiver takes the
/// message when one of them fits.
pub(super) fn signatures(secrets: &[Vec<u8>], id: &str, timestamp: i64, body: &str) -> String {
    let signed = secrets.iter().map(|secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length makes a key");
        mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    signed.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_example_is_reproduced() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signatures(
            std::slice::from_ref(&secret),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let two = signatures(&[secret, vec![1]], "a", 1, "b");
        assert_eq!(two.split(' ').count(), 2);
    }

    #[test]
    fn a_secret_is_shown_as_receivers_expect_it() {
        assert_eq!(Secret(vec![0; 3]).to_string(), "whsec_AAAA");
        assert_ne!(Secret::fresh().0, Secret::fresh().0);
    }
}
