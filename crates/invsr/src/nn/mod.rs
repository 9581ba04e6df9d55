//! Building blocks of the three networks: layers that read their own weights, and the block
//! shapes that the networks share.
//!
//! Activations are NCHW (images) or `[B, tokens, channels]` (sequences). On the CPU the layers
//! work sample by sample in an order that no neighbour changes: the result of an image in a batch
//! is, bit for bit, its result alone.

mod attention;
mod blocks;
mod conv;
pub(crate) mod host;
mod linear;
mod math;
mod norm;
mod time;

pub(crate) use attention::{attention, merge_heads, split_heads};
pub(crate) use blocks::{ImageAttention, Resnet, ResnetShape};
pub(crate) use conv::{Conv2d, Window, upsample_nearest};
pub(crate) use linear::{Linear, geglu};
pub(crate) use norm::{GroupNorm, LayerNorm};
pub(crate) use time::{Sinusoids, TimeEmbedding};
