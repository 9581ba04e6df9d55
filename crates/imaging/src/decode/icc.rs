//! The ICC profile is carried as it is; one that no program could use is dropped, with a warning.

/// Returns the profile if its header is sound, and else what to tell the person.
pub(super) fn usable(profile: Option<Vec<u8>>) -> (Option<Vec<u8>>, Option<String>) {
    let Some(profile) = profile.filter(|profile| !profile.is_empty()) else {
        return (None, None);
    };
    // ICC.1: the colour space of the data is at byte 16, the signature `acsp` at byte 36.
    let sound = profile.len() >= 128
        && profile.get(36..40) == Some(b"acsp")
        && matches!(profile.get(16..20), Some(b"RGB " | b"GRAY"));
    if sound {
        return (Some(profile), None);
    }
    (
        None,
        Some("the icc profile does not fit the picture and was dropped".to_owned()),
    )
}

#[cfg(test)]
pub(super) fn minimal(space: &[u8; 4]) -> Vec<u8> {
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(space);
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_profile_for_gray_or_rgb_is_carried() {
        assert!(usable(Some(minimal(b"RGB "))).0.is_some());
        assert!(usable(Some(minimal(b"GRAY"))).0.is_some());
        assert!(usable(Some(minimal(b"CMYK"))).1.is_some());
        assert!(usable(Some(vec![1, 2, 3])).1.is_some());
        assert_eq!(usable(None), (None, None));
    }
}
