//! Tables of a JPEG stream. Of the strips and tiles of a TIFF page they stand in a stream of their own.

use super::{
    jpeg_huffman::Table,
    jpeg_markers::{next_marker, segment},
};

pub(super) const DHT: u8 = 0xC4;
pub(super) const EOI: u8 = 0xD9;
const DQT: u8 = 0xDB;
pub(super) const DRI: u8 = 0xDD;

/// Tables that hold until others come.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    pub dc: [Option<Table>; 4],
    pub ac: [Option<Table>; 4],
    /// Minimum coded units between two restart markers; 0 for none.
    pub restart_interval: usize,
}

impl Tables {
    /// Reads a stream of tables, which begins with its start-of-image marker: the tables, and where its
    /// end-of-image marker is. `None` for one that is cut off, or in which there is more: a picture in it would be
    /// one whose size nobody has judged.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut tables = Self::default();
        let mut at = 2;
        while let Some((marker, after)) = next_marker(bytes, at) {
            if marker == EOI {
                return Some((tables, after - 2));
            }
            let payload = segment(bytes, after)?;
            at = after + 2 + payload.len();
            match marker {
                DHT | DRI => tables.define(marker, payload),
                // And what an application or a comment says.
                DQT | 0xE0..=0xEF | 0xFE => {}
                _ => return None,
            }
        }
        Some((tables, at))
    }

    /// Takes over what a segment defines: Huffman tables, or the restart interval.
    pub(super) fn define(&mut self, marker: u8, payload: &[u8]) {
        match (marker, payload) {
            (DHT, _) => self.define_codes(payload),
            (DRI, [high, low, ..]) => {
                self.restart_interval = usize::from(u16::from_be_bytes([*high, *low]));
            }
            _ => {}
        }
    }

    fn define_codes(&mut self, mut payload: &[u8]) {
        while let [kind, rest @ ..] = payload {
            let Some((table, rest)) = Table::read(rest) else {
                return;
            };
            let place = usize::from(kind & 15);
            let tables = if kind >> 4 == 0 {
                &mut self.dc
            } else {
                &mut self.ac
            };
            if let Some(slot) = tables.get_mut(place) {
                *slot = Some(table);
            }
            payload = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of one code, and a restart interval.
    const TABLES: [u8; 30] = [
        0xFF, 0xD8, 0xFF, DHT, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7,
        0xFF, DRI, 0, 4, 0, 9,
    ];

    #[test]
    fn tables_end_with_their_marker_or_with_the_bytes() {
        let (tables, end) = Tables::read(&TABLES).unwrap();
        assert_eq!((tables.restart_interval, end), (9, TABLES.len()));
        assert!(tables.ac[0].is_some() && tables.dc[0].is_none());
        let ended = [&TABLES[..], &[0xFF, EOI, 1, 2, 3]].concat();
        assert_eq!(Tables::read(&ended).unwrap().1, TABLES.len());
        assert!(Tables::read(&TABLES[..TABLES.len() - 1]).is_none());
        assert_eq!(Tables::read(&[]).unwrap().1, 2);
    }

    #[test]
    fn tables_with_a_frame_or_a_scan_are_refused() {
        for marker in [0xC0, 0xC2, 0xDA, 0xDC] {
            let more = [&TABLES[..], &[0xFF, marker, 0, 3, 1, 0xFF, EOI]].concat();
            assert!(Tables::read(&more).is_none(), "{marker:x}");
        }
    }
}
