//! Photoshop's image resources, in which JPEG, PNG and TIFF hold IPTC.

/// The resource that holds IPTC.
const IPTC: u16 = 0x0404;

/// Resources that say nothing that a result would lack: resolution, thumbnails, the digest of IPTC, and
/// copies of the ICC profile, EXIF and XMP.
const NOT_MISSED: [u16; 7] = [0x03ED, 0x0409, 0x040C, 0x040F, 0x0422, 0x0424, 0x0425];

/// What is in a list of resources.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Resources {
    pub iptc: Option<Vec<u8>>,
    /// There are others, such as paths and printer settings.
    pub others: bool,
}

/// Reads a list of resources, as far as it is sound.
pub(super) fn read(mut list: &[u8]) -> Resources {
    let mut found = Resources::default();
    while let Some((id, data, rest)) = resource(list) {
        if id == IPTC {
            found.iptc.get_or_insert_with(|| data.to_vec());
        } else if !NOT_MISSED.contains(&id) {
            found.others = true;
        }
        list = rest;
    }
    found
}

/// The first resource: number, data, and what follows.
fn resource(list: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let rest = list.strip_prefix(b"8BIM")?;
    let (id, rest) = rest.split_first_chunk::<2>()?;
    // A name behind its length, both together an even number of bytes.
    let name = (usize::from(*rest.first()?) + 1).next_multiple_of(2);
    let (length, rest) = rest.get(name..)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let data = rest.get(..length)?;
    let rest = rest.get(length.next_multiple_of(2)..).unwrap_or_default();
    Some((u16::from_be_bytes(*id), data, rest))
}

/// A list with the one resource that holds IPTC.
pub(crate) fn with_iptc(iptc: &[u8]) -> Vec<u8> {
    let mut list = b"8BIM".to_vec();
    list.extend(IPTC.to_be_bytes());
    list.extend([0, 0]);
    list.extend(u32::try_from(iptc.len()).unwrap_or(u32::MAX).to_be_bytes());
    list.extend_from_slice(iptc);
    list.resize(list.len().next_multiple_of(2), 0);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iptc_is_found_among_others_and_a_cut_list_is_read_as_far_as_it_goes() {
        let mut list = b"8BIM\x03\xED\0\0\0\0\0\x03abc\0".to_vec();
        list.extend(with_iptc(b"\x1c\x02\x05\0\x01A"));
        assert_eq!(
            read(&list).iptc.as_deref(),
            Some(&b"\x1c\x02\x05\0\x01A"[..])
        );
        assert!(!read(&list).others);
        for length in 0..list.len() {
            read(&list[..length]);
        }
        list.extend(b"8BIM\x07\xD0\x03abc\0\0\0\0");
        assert!(read(&list).others);
    }
}
