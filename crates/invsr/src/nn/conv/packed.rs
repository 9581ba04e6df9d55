//! Convolution on the CPU as matrix products, without ever holding all patches.
//!
//! A core takes some pixels of a sample through all terms, [`DEPTH`] at a time: it copies the patches
//! into the kernel's order, multiplies them with every output's weights, and keeps the sums in its
//! cache until the last term; only then they are written, once, with all that is added to them.
//!
//! Where the input is to be doubled first, each output pixel sees only two by two different pixels:
//! weights that meet the same pixel are added up beforehand, once for each of the four places that a
//! pixel can have in its doubled square.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::Window;
use super::patches::{Image, Run, Term, runs};
use crate::nn::product::{BLOCK, DEPTH, Instructions, LANES, ROWS, Rectangle, Rows, rectangles};

/// Output pixels that a core takes at a time, at least.
const PIXELS: usize = 256;

/// Where the output is small, its rows of channels are shared out too, so many at least.
const LEAST_CHANNELS: usize = 8 * ROWS;

/// A convolution's weights, as the kernel reads them.
#[derive(Debug)]
pub(super) struct Packed {
    window: Window,
    inputs: usize,
    outputs: usize,
    terms: Vec<Term>,
    steps: Vec<Step>,
    weights: Vec<f32>,
}

/// Terms that are summed in one go.
#[derive(Debug)]
struct Step {
    terms: Range<usize>,
    /// Which places of a doubled pixel see them, and where their weights begin.
    weights: Vec<(usize, usize)>,
}

/// What is added to a sample's sums.
#[derive(Clone, Copy)]
pub(super) struct Added<'a> {
    /// To a whole channel.
    pub bias: &'a [f32],
    /// To each value.
    pub image: Option<&'a [f32]>,
}

impl Packed {
    /// - `weight`: `[out, in, k, k]`.
    pub(super) fn new(weight: &[f32], inputs: usize, window: Window) -> Self {
        let taps = window.kernel().pow(2);
        let outputs = weight.len() / (inputs * taps);
        let (terms, cuts) = order(inputs, window);
        let mut steps = Vec::with_capacity(cuts.len());
        let mut jobs = Vec::new();
        let mut length = 0;
        for range in cuts {
            let mut places = Vec::new();
            for place in 0..window.places() {
                if Fold::of(window, place, terms[range.start]).is_some() {
                    places.push((place, length));
                    jobs.push((place, range.clone()));
                    length += outputs.next_multiple_of(ROWS) * range.len();
                }
            }
            steps.push(Step {
                terms: range,
                weights: places,
            });
        }
        let mut weights = vec![0.0; length];
        let mut rest = &mut weights[..];
        let mut parts = Vec::with_capacity(jobs.len());
        for (place, range) in jobs {
            let (part, after) = rest.split_at_mut(outputs.next_multiple_of(ROWS) * range.len());
            rest = after;
            parts.push((part, place, range));
        }
        parts.into_par_iter().for_each(|(part, place, range)| {
            let terms = &terms[range];
            for (panel, out) in part.chunks_exact_mut(terms.len() * ROWS).enumerate() {
                for row in 0..ROWS.min(outputs - panel * ROWS) {
                    let kernels = &weight[(panel * ROWS + row) * inputs * taps..][..inputs * taps];
                    for (out, term) in out.chunks_exact_mut(ROWS).zip(terms) {
                        let kernel = &kernels[term.channel * taps..][..taps];
                        out[row] =
                            Fold::of(window, place, *term).map_or(0.0, |fold| fold.sum(kernel));
                    }
                }
            }
        });
        Self {
            window,
            inputs,
            outputs,
            terms,
            steps,
            weights,
        }
    }

    /// Fills `out`, `[out, H', W']`, from the sample `image`, `[in, H, W]`.
    pub(super) fn forward(
        &self,
        cpu: Instructions,
        image: &[f32],
        (height, width): (usize, usize),
        added: Added<'_>,
        out: &mut [f32],
    ) {
        let image = Image {
            values: &image[..self.inputs * height * width],
            height,
            width,
            window: self.window,
        };
        let grid = image.grid();
        let (pixels, channels) = self.shares(grid);
        let places = self.window.places();
        rectangles(out, places * grid.0 * grid.1, channels, places * pixels)
            .into_par_iter()
            .for_each(|out| {
                ROOM.with_borrow_mut(|room| self.fill(cpu, image, added, out, room));
            });
    }

    /// Pixels of the grid and output channels that a core takes at a time.
    fn shares(&self, (height, width): (usize, usize)) -> (usize, usize) {
        let mut pixels = PIXELS;
        if self.window == Window::Double {
            // Whole rows, whose four places make whole rows of the output.
            pixels = width * (PIXELS / 2).div_ceil(width);
        }
        let parts = (height * width).div_ceil(pixels);
        let wanted = (4 * rayon::current_num_threads()).div_ceil(parts);
        let channels = self.outputs.div_ceil(wanted).next_multiple_of(ROWS);
        (pixels, channels.max(LEAST_CHANNELS))
    }

    fn fill(
        &self,
        cpu: Instructions,
        image: Image<'_>,
        added: Added<'_>,
        out: Rectangle<'_>,
        room: &mut Room,
    ) {
        let (places, grid) = (self.window.places(), image.grid());
        let first = out.columns().start / places;
        let pixels = out.columns().len() / places;
        let runs = runs(first, pixels, grid.1);
        let panels = pixels.div_ceil(LANES);
        let groups = out.rows().start / ROWS..out.rows().end.div_ceil(ROWS);
        let sums = &mut room.sums;
        sums.resize(
            (places * panels * groups.len() * BLOCK).max(sums.len()),
            0.0,
        );
        let mut seen = [false; 4];
        for step in &self.steps {
            let terms = &self.terms[step.terms.clone()];
            let patches = &mut room.patches;
            patches.resize((panels * terms.len() * LANES).max(patches.len()), 0.0);
            let patches = &mut patches[..panels * terms.len() * LANES];
            if !pixels.is_multiple_of(LANES) {
                patches.fill(0.0);
            }
            Arch::new().dispatch(Patches {
                image,
                out: patches,
                terms,
                runs: &runs,
            });
            for &(place, begin) in &step.weights {
                let mut blocks =
                    sums[place * panels * groups.len() * BLOCK..].chunks_exact_mut(BLOCK);
                for b in patches.chunks_exact(terms.len() * LANES) {
                    for (group, sums) in groups.clone().zip(&mut blocks) {
                        let a = Rows {
                            values: &self.weights[begin + group * terms.len() * ROWS..],
                            count: (self.outputs - group * ROWS).min(ROWS),
                            apart: 1,
                            step: ROWS,
                        };
                        cpu.multiply(sums, seen[place], a, b);
                    }
                }
                seen[place] = true;
            }
        }
        let sums = Sums {
            values: sums,
            panels,
            groups,
        };
        sums.write(out, &runs, grid, added);
    }
}

/// The sums of some pixels: for each place, for each panel of pixels, blocks of output channels.
struct Sums<'a> {
    values: &'a [f32],
    panels: usize,
    groups: Range<usize>,
}

impl Sums<'_> {
    /// The sums of a run's pixels at a place.
    fn of(&self, place: usize, run: &Run, channel: usize) -> &[f32] {
        let group = channel / ROWS - self.groups.start;
        let block = (place * self.panels + run.panel) * self.groups.len() + group;
        &self.values[block * BLOCK + (channel % ROWS) * LANES + run.lane..][..run.count]
    }

    fn write(&self, mut out: Rectangle<'_>, runs: &[Run], grid: (usize, usize), added: Added<'_>) {
        let first = out.columns().start;
        let doubled = out.columns().len() > runs.iter().map(|run| run.count).sum();
        let plane = if doubled { 4 } else { 1 } * grid.0 * grid.1;
        for channel in out.rows() {
            let row = out.row(channel);
            if doubled {
                for run in runs {
                    self.write_doubled(row, run, channel, (grid.1, first));
                }
            } else {
                let mut rest = &mut *row;
                for run in runs {
                    let (here, after) = rest.split_at_mut(run.count);
                    here.copy_from_slice(self.of(0, run, channel));
                    rest = after;
                }
            }
            let bias = added.bias[channel];
            match added.image {
                Some(image) => {
                    let image = &image[channel * plane + first..];
                    row.iter_mut()
                        .zip(image)
                        .for_each(|(y, x)| *y = *y + bias + x);
                }
                None => row.iter_mut().for_each(|y| *y += bias),
            }
        }
    }

    /// The four places of a run's pixels: two rows of twice as many.
    fn write_doubled(
        &self,
        row: &mut [f32],
        run: &Run,
        channel: usize,
        (width, first): (usize, usize),
    ) {
        for below in 0..2 {
            let begin = (2 * run.y + below) * 2 * width + 2 * run.x - first;
            let row = &mut row[begin..begin + 2 * run.count];
            let (left, right) = (
                self.of(2 * below, run, channel),
                self.of(2 * below + 1, run, channel),
            );
            for (pair, (left, right)) in row.chunks_exact_mut(2).zip(left.iter().zip(right)) {
                pair.copy_from_slice(&[*left, *right]);
            }
        }
    }
}

/// A core's own memory, kept from one piece of work to the next.
#[derive(Default)]
struct Room {
    patches: Vec<f32>,
    sums: Vec<f32>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// The terms of every sum in their order, and the ranges of them that are summed in one go.
///
/// Channel by channel, so that a channel's rows are read while they are in cache; where the input is
/// doubled, by place in the kernel within some channels, since not every output pixel sees each.
fn order(inputs: usize, window: Window) -> (Vec<Term>, Vec<Range<usize>>) {
    let side = window.kernel();
    let term = |channel, tap| Term {
        channel,
        down: tap / side,
        right: tap % side,
    };
    let taps = side * side;
    let mut terms = Vec::with_capacity(inputs * taps);
    let mut cuts = Vec::new();
    if window == Window::Double {
        for first in (0..inputs).step_by(DEPTH) {
            for tap in 0..taps {
                let begin = terms.len();
                terms.extend((first..inputs.min(first + DEPTH)).map(|channel| term(channel, tap)));
                cuts.push(begin..terms.len());
            }
        }
    } else {
        terms.extend((0..inputs * taps).map(|i| term(i / taps, i % taps)));
        cuts.extend(
            (0..terms.len())
                .step_by(DEPTH)
                .map(|i| i..terms.len().min(i + DEPTH)),
        );
    }
    (terms, cuts)
}

/// The kernel's weights that meet one input pixel.
struct Fold {
    rows: Range<usize>,
    columns: Range<usize>,
    side: usize,
}

impl Fold {
    /// `None` where an output pixel at this place does not see the term's pixel.
    fn of(window: Window, place: usize, term: Term) -> Option<Self> {
        let side = window.kernel();
        let (rows, columns) = if window == Window::Double {
            (
                doubled(place / 2, term.down),
                doubled(place % 2, term.right),
            )
        } else {
            (term.down..term.down + 1, term.right..term.right + 1)
        };
        (!rows.is_empty() && !columns.is_empty()).then_some(Self {
            rows,
            columns,
            side,
        })
    }

    fn sum(&self, kernel: &[f32]) -> f32 {
        let row = |row: usize| {
            let row = &kernel[row * self.side..][..self.side];
            row[self.columns.clone()].iter().sum::<f32>()
        };
        self.rows.clone().map(row).sum()
    }
}

/// Which of a kernel's three rows meet the input row `seen` (0 above, 1 at, 2 below) of an output
/// row that is the first (0) or second (1) half of it.
fn doubled(half: usize, seen: usize) -> Range<usize> {
    match (half, seen) {
        (0, 0) => 0..1,
        (0, 1) => 1..3,
        (1, 1) => 0..2,
        (1, 2) => 2..3,
        _ => 0..0,
    }
}

/// Values that a core holds at once, for `grid_px` pixels of the grid.
pub(crate) fn room_values(inputs: usize, outputs: usize, window: Window, grid_px: usize) -> usize {
    let terms = (inputs * window.kernel().pow(2)).min(DEPTH);
    let width = grid_px.isqrt().max(1);
    let pixels = match window {
        Window::Double => (width * (PIXELS / 2).div_ceil(width)).min(grid_px),
        _ => PIXELS.min(grid_px),
    };
    let panels = pixels.div_ceil(LANES);
    panels * LANES * (terms + window.places() * outputs.next_multiple_of(ROWS))
}

/// [`Image::patches`] with the widest registers; a closure would have only those of any processor.
struct Patches<'a> {
    image: Image<'a>,
    out: &'a mut [f32],
    terms: &'a [Term],
    runs: &'a [Run],
}

impl WithSimd for Patches<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.image.patches(self.out, self.terms, self.runs);
    }
}
