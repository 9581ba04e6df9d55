//! Huffman codes of a JPEG stream, read bit by bit.

use super::jpeg_scans::Fault;

/// Codes have at most so many bits.
const MOST_BITS: u32 = 16;
const LENGTHS: usize = MOST_BITS as usize + 1;
/// Codes of at most so many bits are looked up at once.
const FAST_BITS: u32 = 9;

/// A table of codes.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// By the next [`FAST_BITS`] bits: length of the code and its symbol; zero where it is longer.
    fast: Vec<u16>,
    /// By length: the first code that is too large for it, and the place of its symbols less its first code.
    beyond: [u32; LENGTHS],
    offset: [i32; LENGTHS],
    symbols: Vec<u8>,
}

impl Table {
    /// Reads a table, and returns what follows it.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (counts, rest) = bytes.split_at_checked(MOST_BITS as usize)?;
        let total = counts.iter().map(|count| usize::from(*count)).sum();
        let (symbols, rest) = rest.split_at_checked(total)?;
        let mut table = Self {
            fast: vec![0; 1 << FAST_BITS],
            beyond: [0; LENGTHS],
            offset: [0; LENGTHS],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut place) = (0_u32, 0_usize);
        for (length, count) in (1_u32..).zip(counts) {
            let first = i32::try_from(code).ok()?;
            table.offset[length as usize] = i32::try_from(place).ok()? - first;
            for symbol in &symbols[place..place + usize::from(*count)] {
                if let Some(free) = FAST_BITS.checked_sub(length) {
                    let entry = u16::try_from(length).ok()? << 8 | u16::from(*symbol);
                    let from = usize::try_from(code << free).ok()?;
                    table.fast.get_mut(from..from + (1 << free))?.fill(entry);
                }
                code += 1;
            }
            place += usize::from(*count);
            table.beyond[length as usize] = code;
            code <<= 1;
        }
        Some((table, rest))
    }
}

/// The data of a scan.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The next bits, from the highest on, and how many there are; below them are zeros.
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            held: 0,
            count: 0,
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(&byte) = self.data.get(self.at) else {
                return;
            };
            if byte == 0xFF {
                // A stuffed zero belongs to it; anything else is a marker, where the bits end.
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.held |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next bits as a number, at most 16 of them.
    pub(super) fn take(&mut self, bits: u32) -> Result<u32, Fault> {
        if self.count < bits {
            self.fill();
        }
        let number = self.next(bits);
        self.skip(bits)?;
        Ok(number)
    }

    /// Passes over at most 16 bits.
    pub(super) fn skip(&mut self, bits: u32) -> Result<(), Fault> {
        if self.count < bits {
            self.fill();
            if self.count < bits {
                return Err(Fault::Short);
            }
        }
        self.held <<= bits;
        self.count -= bits;
        Ok(())
    }

    /// The symbol of the next code.
    pub(super) fn symbol(&mut self, table: Option<&Table>) -> Result<u8, Fault> {
        let table = table.ok_or(Fault::Damaged)?;
        if self.count < 16 {
            self.fill();
        }
        let entry = table.fast[self.next(FAST_BITS) as usize];
        if entry != 0 {
            self.skip(u32::from(entry >> 8))?;
            return Ok((entry & 0xFF) as u8);
        }
        for length in FAST_BITS + 1..=MOST_BITS {
            let code = self.next(length);
            if code < table.beyond[length as usize] {
                self.skip(length)?;
                let place = i64::from(code) + i64::from(table.offset[length as usize]);
                let place = usize::try_from(place).map_err(|_| Fault::Damaged)?;
                return table.symbols.get(place).copied().ok_or(Fault::Damaged);
            }
        }
        // Where the data end, zeros are no code but the end.
        Err(if self.count < MOST_BITS {
            Fault::Short
        } else {
            Fault::Damaged
        })
    }

    /// The next bits, with zeros where there are none.
    fn next(&self, bits: u32) -> u32 {
        u32::try_from(self.held.checked_shr(64 - bits).unwrap_or(0)).unwrap_or(0)
    }

    /// Goes on behind the next restart marker, which has to be of this number, from 0 to 7 again and again: another
    /// one means that an interval is missing, or there twice.
    pub(super) fn restart(&mut self, number: u8) -> Result<(), Fault> {
        (self.held, self.count) = (0, 0);
        let rest = self.data.get(self.at..).unwrap_or_default();
        let mut pairs = rest.windows(2);
        let found = pairs.position(|pair| pair[0] == 0xFF && matches!(pair[1], 0xD0..=0xD7));
        let found = found.ok_or(Fault::Short)?;
        if rest[found + 1] & 7 != number {
            return Err(Fault::Damaged);
        }
        self.at += found + 2;
        Ok(())
    }
}
