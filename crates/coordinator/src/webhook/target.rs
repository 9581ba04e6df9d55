//! Who may be called. Clients name the receivers, the coordinator stands inside a network: so only public
//! addresses, looked at when the connection is made. What a name meant at submission says nothing about
//! what it means later.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A receiver that may not be called, as it is shown to its owner: not which private address a name has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No address at all.
    #[error("this is no web address")]
    Unreadable,
    /// Plain HTTP.
    #[error("the address must begin with https://")]
    NotSecret,
    /// `user:password@`.
    #[error("the address holds a name or a password: messages are signed, leave them out")]
    Credentials,
    /// Loopback, private networks, and whatever else is not the public internet.
    #[error("the receiver is not on the public internet")]
    Private,
}

/// Looks at a receiver's address. With `allow_private` plain HTTP and private addresses will do.
///
/// # Errors
/// [`TargetError`]. A host name is not looked up.
pub fn check(text: &str, allow_private: bool) -> Result<Url, TargetError> {
    let url: Url = text.parse().map_err(|_| TargetError::Unreadable)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TargetError::Credentials);
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_private => {}
        "http" => return Err(TargetError::NotSecret),
        _ => return Err(TargetError::Unreadable),
    }
    // Addresses written out are never resolved, so they are judged here, and again before each attempt.
    let host = url.host_str().ok_or(TargetError::Unreadable)?;
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let private = match literal.parse::<IpAddr>() {
        Ok(address) => !is_public(address),
        Err(_) => host.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
    };
    if private && !allow_private {
        return Err(TargetError::Private);
    }
    Ok(url)
}

/// Looks names up and passes on what may be called; the connection is made to nothing else.
#[derive(Debug, Clone, Copy)]
pub struct PublicResolver {
    /// The operator's switch.
    pub allow_private: bool,
}

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found
                .filter(|address| allow_private || is_public(address.ip()))
                .collect();
            if allowed.is_empty() {
                return Err(TargetError::Private.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is one of the public internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        // shared by carriers, benchmarks, protocol assignments, old 6to4 relays, reserved
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || a >= 240)
}

/// Global unicast only, less documentation and protocols, and less whatever carries a private IPv4
/// address inside it.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let inside = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // mapped, and NAT64
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            inside(high, low)
        }
        // 6to4
        [0x2002, high, low, ..] => inside(high, low),
        [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
        [0x3fff, second, ..] if second < 0x1000 => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:0a00:0001::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2001:4860:4860::8888",
            "2002:0101:0101::1",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn every_spelling_of_a_private_receiver_is_refused() {
        for private in [
            "https://127.0.0.1/x",
            "https://127.1/x",
            "https://2130706433/x",
            "https://0x7f.0.0.1/x",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://169.254.169.254/latest/meta-data/",
        ] {
            assert_eq!(
                check(private, false),
                Err(TargetError::Private),
                "{private}"
            );
        }
        assert_eq!(
            check("http://example.org/", false),
            Err(TargetError::NotSecret)
        );
        let named = check("https://a:b@example.org/", false);
        assert_eq!(named, Err(TargetError::Credentials));
        assert_eq!(
            check("ftp://example.org/", true),
            Err(TargetError::Unreadable)
        );
        assert!(check("https://example.org:8443/hooks?x=1", false).is_ok());
        assert!(check("http://127.0.0.1:9/", true).is_ok());
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_called() {
        let resolve = async |allow_private| {
            let name = "localhost".parse().unwrap();
            PublicResolver { allow_private }.resolve(name).await.is_ok()
        };
        assert!(!resolve(false).await);
        assert!(resolve(true).await);
    }
}
