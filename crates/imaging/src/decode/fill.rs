//! Colours for what cannot be seen.
//!
//! Files keep any colour under full transparency, often a key colour. Enlarged, it would bleed into
//! the edges of what can be seen. So the engine sees there the colours of visible pixels near by,
//! and middle gray where there are none.

use std::collections::VecDeque;

use super::{
    native::Native,
    reader::{alphas, colours},
};
use crate::{DecodeError, colour::Colour};

/// How far colours reach into what is transparent, in pixels: more than the engine's enlarging looks
/// around at an edge.
const REACH: usize = 8;
/// Where nothing is near.
const MIDDLE: f32 = 0.5;

/// Rows with what is around them.
#[derive(Debug, Default)]
pub(super) struct Fill {
    held: VecDeque<Held>,
    /// Of the first row held.
    first: u32,
}

#[derive(Debug)]
struct Held {
    /// Three a pixel, clipped to sRGB.
    colours: Vec<f32>,
    alpha: Vec<f32>,
    /// Colours times alpha, and alpha, summed to both sides with falling weights: four a pixel. Empty
    /// where all is transparent.
    sums: Vec<f32>,
}

impl Fill {
    /// Writes row `y`, three values a pixel. Rows are asked for from the top downwards.
    pub(super) fn row(
        &mut self,
        y: u32,
        native: &mut Native<'_>,
        space: &Colour,
        row: &mut [f32],
    ) -> Result<(), DecodeError> {
        self.hold_around(y, native, space)?;
        let own = usize::try_from(y - self.first).unwrap_or(usize::MAX);
        row.copy_from_slice(&self.held[own].colours);
        let alpha = &self.held[own].alpha;
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            if alpha[x] == 0.0 {
                *pixel = self.near(own, x);
            }
        }
        Ok(())
    }

    /// The mean colour around a pixel, by nearness and visibility.
    fn near(&self, own: usize, x: usize) -> [f32; 3] {
        let mut sum = [0.0; 4];
        for (index, held) in self.held.iter().enumerate() {
            let Some(found) = held.sums.get(4 * x..4 * x + 4) else {
                continue;
            };
            let weight = weight(index.abs_diff(own));
            for (sum, found) in sum.iter_mut().zip(found) {
                *sum += weight * found;
            }
        }
        let [red, green, blue, visible] = sum;
        if visible > 0.0 {
            [red / visible, green / visible, blue / visible]
        } else {
            [MIDDLE; 3]
        }
    }

    fn hold_around(
        &mut self,
        y: u32,
        native: &mut Native<'_>,
        space: &Colour,
    ) -> Result<(), DecodeError> {
        let reach = u32::try_from(REACH).unwrap_or(u32::MAX);
        let (from, to) = (y.saturating_sub(reach), y.saturating_add(reach));
        while self.first < from && self.held.pop_front().is_some() {
            self.first += 1;
        }
        if self.held.is_empty() {
            native.skip(from.saturating_sub(native.next_row()))?;
            self.first = from;
        }
        let end = to.saturating_add(1).min(native.info().height);
        while native.next_row() < end {
            let mut stored = Vec::with_capacity(native.row_bytes());
            native.read(1, |part| stored.extend_from_slice(part))?;
            self.held.push_back(Held::of(&stored, native, space));
        }
        Ok(())
    }
}

impl Held {
    fn of(stored: &[u8], native: &Native<'_>, space: &Colour) -> Self {
        let layout = native.layout();
        let width = stored.len() / layout.pixel_bytes();
        let mut row = vec![0.0; 3 * width];
        colours(stored, layout, &mut row);
        space.to_srgb(&mut row);
        row.iter_mut()
            .for_each(|value| *value = value.clamp(0.0, 1.0));
        let mut alpha = vec![0.0; width];
        alphas(stored, layout, &mut alpha);
        Self {
            sums: sums(&row, &alpha),
            colours: row,
            alpha,
        }
    }
}

fn sums(colours: &[f32], alpha: &[f32]) -> Vec<f32> {
    if alpha.iter().all(|alpha| *alpha == 0.0) {
        return Vec::new();
    }
    let width = alpha.len();
    let mut sums = vec![0.0; 4 * width];
    for (x, sum) in sums.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        for near in x.saturating_sub(REACH)..(x + REACH + 1).min(width) {
            let share = weight(near.abs_diff(x)) * alpha[near];
            for (sum, colour) in sum.iter_mut().zip(&colours[3 * near..3 * near + 3]) {
                *sum += share * colour;
            }
            sum[3] += share;
        }
    }
    sums
}

/// Falls with the distance, to nothing behind the reach.
fn weight(distance: usize) -> f32 {
    (REACH + 1).saturating_sub(distance) as f32
}
