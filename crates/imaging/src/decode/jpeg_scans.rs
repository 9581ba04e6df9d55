//! A walk through the entropy-coded data of a JPEG stream (ITU T.81, Huffman coding), without the pixels.
//!
//! Decoders fill what is missing with grey and call it a success, and progressive files hide it well: one that
//! was cut looks merely soft. The walk decodes every symbol and counts: each scan must hold all its blocks, and
//! the scans together every coefficient to its last bit. What it does not understand it leaves to the decoder.

use std::ops::RangeInclusive;

use super::{
    jpeg_huffman::{Bits, Table},
    jpeg_markers::{after_scan, next_marker, segment},
    jpeg_tables::{DHT, DRI, EOI, Tables},
};

/// Samples of a block's side, and coefficients of a block.
const SIDE: usize = 8;
const COEFFICIENTS: usize = 64;

const SOS: u8 = 0xDA;

/// What is wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It ends before its picture does.
    Short,
    /// Whole scans are missing: there is every block, but not every coefficient to its last bit. The standard allows
    /// that, and no program does it to a picture that is to be kept.
    Unfinished,
    /// It holds a code that no table has, or a coefficient outside its block.
    Damaged,
}

#[derive(Debug)]
struct Component {
    id: u8,
    /// Sampling factors.
    across: usize,
    down: usize,
    /// Blocks that hold samples, and those of whole minimum coded units.
    blocks: (usize, usize),
    stride: usize,
    /// Of each block which coefficients are not zero so far; of progressive pictures only.
    nonzero: Vec<u64>,
    /// Of each coefficient the lowest bit that came so far.
    lowest: [Option<u8>; COEFFICIENTS],
}

#[derive(Debug)]
struct Frame {
    is_progressive: bool,
    components: Vec<Component>,
    /// Minimum coded units, across and down.
    units: (usize, usize),
}

/// What a scan brings.
struct Scan {
    /// Of the components that take part: its place in the frame, its DC table, its AC table.
    parts: Vec<(usize, usize, usize)>,
    band: RangeInclusive<usize>,
    /// Bit position of the scan before this one for the same coefficients; zero in the first.
    high: u8,
    low: u8,
}

/// Walks through a stream, which begins with its start-of-image marker, to its end, whether that is a marker or not.
/// Its frame takes memory: its size must have been judged before.
pub(super) fn check(bytes: &[u8], tables: &mut Tables) -> Result<(), Fault> {
    let mut frame = None;
    let mut at = 2;
    while let Some((marker, after)) = next_marker(bytes, at) {
        at = after;
        if marker == EOI {
            break;
        }
        if matches!(marker, 0x01 | 0xD0..=0xD8) {
            continue;
        }
        let payload = segment(bytes, at).ok_or(Fault::Short)?;
        at += 2 + payload.len();
        match marker {
            DHT | DRI => tables.define(marker, payload),
            0xC0..=0xC2 => frame = Frame::read(payload, marker == 0xC2),
            SOS => {
                let end = after_scan(bytes, at);
                if let Some(frame) = &mut frame
                    && let Some(scan) = Scan::read(payload, frame)
                {
                    frame.scan(&scan, &bytes[at..end], tables)?;
                }
                at = end;
            }
            _ => {}
        }
    }
    frame.map_or(Ok(()), |frame| frame.check_complete())
}

impl Frame {
    fn read(payload: &[u8], is_progressive: bool) -> Option<Self> {
        let [_, h1, h0, w1, w0, count, ref parts @ ..] = *payload else {
            return None;
        };
        let size = |high, low| usize::from(u16::from_be_bytes([high, low]));
        let (width, height) = (size(w1, w0), size(h1, h0));
        let mut components: Vec<Component> = parts
            .chunks_exact(3)
            .take(usize::from(count))
            .map(|part| Component {
                id: part[0],
                across: usize::from(part[1] >> 4),
                down: usize::from(part[1] & 15),
                blocks: (0, 0),
                stride: 0,
                nonzero: Vec::new(),
                lowest: [None; COEFFICIENTS],
            })
            .collect();
        let most = |factor: fn(&Component) -> usize| components.iter().map(factor).max();
        let (across, down) = (most(|c| c.across)?, most(|c| c.down)?);
        if components.iter().any(|c| c.across == 0 || c.down == 0) {
            return None;
        }
        let units = (width.div_ceil(SIDE * across), height.div_ceil(SIDE * down));
        for component in &mut components {
            let samples = |all: usize, factor: usize, most: usize| (all * factor).div_ceil(most);
            component.blocks = (
                samples(width, component.across, across).div_ceil(SIDE),
                samples(height, component.down, down).div_ceil(SIDE),
            );
            component.stride = units.0 * component.across;
            if is_progressive {
                component.nonzero = vec![0; component.stride * units.1 * component.down];
            }
        }
        Some(Self {
            is_progressive,
            components,
            units,
        })
    }

    /// Walks through one scan. One whose tables did not come is left to the decoder.
    fn scan(&mut self, scan: &Scan, data: &[u8], tables: &Tables) -> Result<(), Fault> {
        for (place, ..) in &scan.parts {
            let lowest = &mut self.components[*place].lowest[scan.band.clone()];
            if scan.high > 0 && lowest.iter().any(|bit| *bit != Some(scan.high)) {
                return Err(Fault::Unfinished);
            }
            lowest.fill(Some(scan.low));
        }
        if !scan.has_tables(tables, self.is_progressive) {
            return Ok(());
        }
        let mut walk = Walk {
            bits: Bits::new(data),
            is_progressive: self.is_progressive,
            scan,
            end_of_band: 0,
        };
        // One component alone has no minimum coded units: its blocks come one by one.
        let (across, down) = match *scan.parts {
            [(only, ..)] => self.components[only].blocks,
            _ => self.units,
        };
        let mut until_restart = tables.restart_interval;
        let mut restarts = 0_u8;
        for row in 0..down {
            for column in 0..across {
                if tables.restart_interval > 0 && until_restart == 0 {
                    walk.bits.restart(restarts & 7)?;
                    restarts = restarts.wrapping_add(1);
                    walk.end_of_band = 0;
                    until_restart = tables.restart_interval;
                }
                until_restart = until_restart.wrapping_sub(1);
                for &(place, dc, ac) in &scan.parts {
                    let tables = (tables.dc[dc].as_ref(), tables.ac[ac].as_ref());
                    let component = &mut self.components[place];
                    if scan.parts.len() == 1 {
                        walk.block(component.block(column, row), tables)?;
                        continue;
                    }
                    for line in 0..component.down {
                        for block in 0..component.across {
                            let (x, y) = (component.across, component.down);
                            let block = component.block(column * x + block, row * y + line);
                            walk.block(block, tables)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether every coefficient of every component came, to its last bit.
    fn check_complete(&self) -> Result<(), Fault> {
        let mut lowest = self.components.iter().flat_map(|c| c.lowest.iter());
        if lowest.all(|bit| *bit == Some(0)) {
            return Ok(());
        }
        Err(Fault::Unfinished)
    }
}

impl Component {
    /// The coefficients of a block, where they are kept.
    fn block(&mut self, column: usize, row: usize) -> Option<&mut u64> {
        self.nonzero.get_mut(row * self.stride + column)
    }
}

impl Scan {
    fn read(payload: &[u8], frame: &Frame) -> Option<Self> {
        let (count, rest) = payload.split_first()?;
        let (parts, rest) = rest.split_at_checked(usize::from(*count) * 2)?;
        let [first, last, bits, ..] = *rest else {
            return None;
        };
        let place = |id| frame.components.iter().position(|c| c.id == id);
        let parts = parts.chunks_exact(2).map(|part| {
            let tables = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            let known = tables.0 < 4 && tables.1 < 4;
            place(part[0])
                .filter(|_| known)
                .map(|at| (at, tables.0, tables.1))
        });
        let parts: Vec<_> = parts.collect::<Option<_>>()?;
        let (band, high, low) = if frame.is_progressive {
            (usize::from(first)..=usize::from(last), bits >> 4, bits & 15)
        } else {
            (0..=COEFFICIENTS - 1, 0, 0)
        };
        let fits = *band.end() < COEFFICIENTS && !band.is_empty() && !parts.is_empty();
        // The zero frequency has scans of its own, and others are of one component.
        let is_lawful = !frame.is_progressive
            || (*band.start() == 0 && *band.end() == 0)
            || (*band.start() > 0 && parts.len() == 1);
        (fits && is_lawful).then_some(Self {
            parts,
            band,
            high,
            low,
        })
    }

    fn has_tables(&self, tables: &Tables, is_progressive: bool) -> bool {
        let (first, last) = (*self.band.start(), *self.band.end());
        let needs_dc = first == 0 && (!is_progressive || self.high == 0);
        let needs_ac = last > 0;
        self.parts.iter().all(|&(_, dc, ac)| {
            (!needs_dc || tables.dc[dc].is_some()) && (!needs_ac || tables.ac[ac].is_some())
        })
    }
}

/// The place in a scan.
struct Walk<'a> {
    bits: Bits<'a>,
    is_progressive: bool,
    scan: &'a Scan,
    /// Blocks for which the band has ended already.
    end_of_band: u32,
}

impl Walk<'_> {
    fn block(
        &mut self,
        nonzero: Option<&mut u64>,
        (dc, ac): (Option<&Table>, Option<&Table>),
    ) -> Result<(), Fault> {
        if !self.is_progressive {
            self.zero_frequency(dc)?;
            return self.sequential(ac);
        }
        let is_first = self.scan.high == 0;
        match (*self.scan.band.start(), nonzero) {
            (0, _) if is_first => self.zero_frequency(dc),
            (0, _) => self.bits.skip(1),
            (_, Some(nonzero)) if is_first => self.first(nonzero, ac),
            (_, Some(nonzero)) => self.refine(nonzero, ac),
            (_, None) => Err(Fault::Damaged),
        }
    }

    fn zero_frequency(&mut self, table: Option<&Table>) -> Result<(), Fault> {
        let size = self.bits.symbol(table)?;
        self.bits.skip(u32::from(size & 15))
    }

    fn sequential(&mut self, table: Option<&Table>) -> Result<(), Fault> {
        let mut at = 1;
        while at < COEFFICIENTS {
            let (run, size) = self.run_and_size(table)?;
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => break,
                _ => {
                    at += run + 1;
                    self.bits.skip(size)?;
                }
            }
        }
        inside(at, COEFFICIENTS)
    }

    /// The first bits of a band's coefficients.
    fn first(&mut self, nonzero: &mut u64, table: Option<&Table>) -> Result<(), Fault> {
        if self.end_of_band > 0 {
            self.end_of_band -= 1;
            return Ok(());
        }
        let (mut at, end) = (*self.scan.band.start(), *self.scan.band.end());
        while at <= end {
            let (run, size) = self.run_and_size(table)?;
            match (run, size) {
                (15, 0) => at += 16,
                (_, 0) => {
                    self.end_of_band = self.bands(run)? - 1;
                    break;
                }
                _ => {
                    at += run;
                    inside(at, end)?;
                    *nonzero |= 1 << at;
                    at += 1;
                    self.bits.skip(size)?;
                }
            }
        }
        inside(at, end + 1)
    }

    /// One more bit of a band's coefficients: of those that are not zero already each has one, between those
    /// that begin here.
    fn refine(&mut self, nonzero: &mut u64, table: Option<&Table>) -> Result<(), Fault> {
        let (mut at, end) = (*self.scan.band.start(), *self.scan.band.end());
        if self.end_of_band == 0 {
            while at <= end {
                let (mut run, size) = self.run_and_size(table)?;
                if size == 0 && run < 15 {
                    self.end_of_band = self.bands(run)?;
                    break;
                }
                self.bits.skip(size)?;
                while at <= end {
                    if *nonzero & (1 << at) != 0 {
                        self.bits.skip(1)?;
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    at += 1;
                }
                if size > 0 {
                    inside(at, end)?;
                    *nonzero |= 1 << at;
                }
                at += 1;
            }
        }
        if self.end_of_band > 0 {
            while at <= end {
                if *nonzero & (1 << at) != 0 {
                    self.bits.skip(1)?;
                }
                at += 1;
            }
            self.end_of_band -= 1;
        }
        Ok(())
    }

    fn run_and_size(&mut self, table: Option<&Table>) -> Result<(usize, u32), Fault> {
        let symbol = self.bits.symbol(table)?;
        Ok((usize::from(symbol >> 4), u32::from(symbol & 15)))
    }

    /// For how many blocks, this one included, the band has ended.
    fn bands(&mut self, run: usize) -> Result<u32, Fault> {
        let more = self.bits.take(u32::try_from(run).unwrap_or(0))?;
        Ok((1 << run) + more)
    }
}

fn inside(at: usize, last: usize) -> Result<(), Fault> {
    if at <= last {
        return Ok(());
    }
    Err(Fault::Damaged)
}
