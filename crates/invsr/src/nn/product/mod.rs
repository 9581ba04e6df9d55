//! Matrix products on the CPU: the one place where the engine multiplies `f32` in main memory.
//!
//! `kernel.rs` computes a block of [`ROWS`] x [`LANES`] sums in registers, with the widest
//! instructions that the processor has; `rectangles.rs` lets several cores fill one result. Both hold
//! the only `unsafe` code of it. Convolution, linear layers and attention bring their operands into
//! the order that the kernel reads, share the work out, and finish the sums while these are in cache.
//!
//! **The same bits on every processor, on any number of cores, in any batch.** A block's sums are
//! chains of fused multiply-adds in the order of the terms, at most [`DEPTH`] of them; longer sums
//! are sums of such chains, in order. An instruction set only decides how many neighbouring sums are
//! computed at once, a core which of them.

mod kernel;
mod rectangles;

pub(super) use kernel::{Instructions, Rows};
pub(super) use rectangles::{Rectangle, rectangles};

/// Rows of a block of sums.
pub(super) const ROWS: usize = 8;

/// Neighbouring sums of a row.
pub(super) const LANES: usize = 32;

/// Values in a block of sums, row after row.
pub(super) const BLOCK: usize = ROWS * LANES;

/// Terms summed before the sum joins others. A panel of so many rows of `LANES` fits in the first
/// cache.
pub(super) const DEPTH: usize = 256;
