//! The metadata of a page of TIFF: part of its directory.

use super::{Metadata, exif::Directories, source::Bytes};

/// - `directory`: of the page, in bytes.
pub(super) fn read(bytes: &mut Bytes<'_>, directory: Option<u64>) -> Metadata {
    let mut metadata = Metadata::default();
    let found = Directories::open(bytes).and_then(|found| found.read(directory));
    let Some(mut found) = found else {
        return metadata;
    };
    metadata.xmp = found.xmp.take();
    metadata.iptc = found.iptc.take().map(without_padding);
    if let Some(list) = found.photoshop.take() {
        metadata.set_photoshop(&list);
    }
    metadata.set_exif(found);
    metadata
}

/// Some programs store IPTC as whole numbers of four bytes.
fn without_padding(mut iptc: Vec<u8>) -> Vec<u8> {
    let end = iptc
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    // A record may end in up to three zeros of its own; then there is no padding to tell from them.
    if iptc.len() - end < 4 && ends_with_a_record(&iptc[..end]) {
        iptc.truncate(end);
    }
    iptc
}

fn ends_with_a_record(mut records: &[u8]) -> bool {
    while let [0x1C, _, _, high, low, rest @ ..] = records {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(length..) {
            Some(after) => records = after,
            None => return false,
        }
    }
    records.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_of_iptc_goes_and_zeros_of_a_record_stay() {
        let record = b"\x1c\x02\x05\0\x03A\0\0";
        assert_eq!(without_padding(record.to_vec()), record);
        let record = b"\x1c\x02\x05\0\x01A";
        assert_eq!(without_padding([&record[..], &[0, 0]].concat()), record);
    }
}
