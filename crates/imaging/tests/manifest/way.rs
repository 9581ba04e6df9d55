//! The whole way of a file with an engine that repeats every pixel sixteen times, and what a picture is
//! on average.

use std::io::Cursor;

use ::tiff::decoder::{Decoder, DecodingResult};
use imaging::{EncodeOptions, Finish, Finished, Limits, Page, Reader, Writer};

/// The result of a file of one page.
pub fn upscale(file: &[u8], options: &EncodeOptions) -> Vec<u8> {
    upscale_pages(file, std::slice::from_ref(options))
}

/// The result of a file with a page for each of `options`.
pub fn upscale_pages(file: &[u8], options: &[EncodeOptions]) -> Vec<u8> {
    let open = |page| {
        let file = Box::new(Cursor::new(file));
        Reader::open_page(file, &Limits::default(), page).unwrap()
    };
    let page = |(index, options): (u32, &EncodeOptions)| {
        let info = open(index).info().clone();
        Page {
            options: options.clone(),
            width: 4 * info.width,
            height: 4 * info.height,
        }
    };
    let pages = (0..).zip(options).map(page).collect();
    let mut writer = Writer::of_pages(pages).unwrap();
    let mut body = Vec::new();
    for (index, options) in (0..).zip(options) {
        let mut reader = open(index);
        let mut finish = Finish::new(open(index), options);
        let mut row = vec![0.0; reader.row_bytes()];
        while reader.next_row() < reader.info().height {
            let at = 4 * reader.next_row();
            reader.read_unit_rows(&mut row).unwrap();
            let wide: Vec<f32> = row.chunks(3).flat_map(|pixel| pixel.repeat(4)).collect();
            let samples = finish.rows(at, &wide.repeat(4)).unwrap();
            writer.push_samples(&samples).unwrap();
            body.extend(writer.take());
        }
    }
    let Finished { head, tail } = writer.finish().unwrap();
    [head, body, tail].concat()
}

/// Samples on a scale to 255, RGBA.
pub struct Picture {
    width: usize,
    height: usize,
    rgba: Vec<[f32; 4]>,
    /// Rows and columns for each of the source's.
    scale: usize,
}

impl Picture {
    /// By another crate's decoders, in the file's own colour space.
    pub fn decode(file: &[u8], scale: usize) -> Self {
        let mut reader = image::ImageReader::new(std::io::Cursor::new(file));
        reader.no_limits();
        let picture = reader.with_guessed_format().unwrap().decode().unwrap();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let deep = picture.color().bytes_per_pixel() > picture.color().channel_count();
        let rgba = if deep {
            let pixels = picture.into_rgba16().into_raw();
            let unit = |pixel: &[u16]| [0, 1, 2, 3].map(|i| f32::from(pixel[i]) / 257.0);
            pixels.chunks(4).map(unit).collect()
        } else {
            let pixels = picture.into_rgba8().into_raw();
            pixels
                .chunks(4)
                .map(|pixel| [0, 1, 2, 3].map(|i| f32::from(pixel[i])))
                .collect()
        };
        Self {
            width,
            height,
            rgba,
            scale,
        }
    }

    /// A page of TIFF with 8 bits a sample, gray or RGB, by another crate.
    pub fn page(file: &[u8], index: usize, scale: usize) -> Self {
        let mut decoder = Decoder::new(Cursor::new(file)).unwrap();
        decoder.seek_to_image(index).unwrap();
        let (width, height) = decoder.dimensions().unwrap();
        let (width, height) = (width as usize, height as usize);
        let DecodingResult::U8(samples) = decoder.read_image().unwrap() else {
            panic!("the page has other samples");
        };
        let channels = samples.len() / (width * height);
        let opaque = |pixel: &[u8]| {
            let [red, green, blue] = [0, 1, 2].map(|i| f32::from(pixel[i % channels]));
            [red, green, blue, 255.0]
        };
        Self {
            width,
            height,
            rgba: samples.chunks(channels).map(opaque).collect(),
            scale,
        }
    }

    /// As the engine sees it.
    pub fn read(mut reader: Reader<'_>) -> Self {
        let (width, height) = (reader.info().width as usize, reader.info().height as usize);
        let mut rgb = vec![0; reader.row_bytes() * height];
        reader.read_rows(&mut rgb).unwrap();
        let opaque = |pixel: &[u8]| {
            let [red, green, blue] = [0, 1, 2].map(|i| f32::from(pixel[i]));
            [red, green, blue, 255.0]
        };
        Self {
            width,
            height,
            rgba: rgb.chunks(3).map(opaque).collect(),
            scale: 1,
        }
    }

    /// The mean of every channel in each of 4x3 cells, row by row; colours multiplied by alpha.
    pub fn cells(&self, gray: bool, alpha: bool) -> Vec<f64> {
        let (width, height) = (self.width / self.scale, self.height / self.scale);
        let part = |length: usize, index: usize, of: usize| {
            let from = index * length / of;
            let to = ((index + 1) * length / of).max(from + 1);
            from * self.scale..to * self.scale
        };
        let mut means = Vec::new();
        for row in 0..3 {
            for column in 0..4 {
                let across = part(width, column, 4);
                let sums = self.sums(&part(height, row, 3), &across);
                means.extend_from_slice(if gray { &sums[..1] } else { &sums[..3] });
                means.extend_from_slice(if alpha { &sums[3..] } else { &[] });
            }
        }
        means
    }

    fn sums(&self, down: &std::ops::Range<usize>, across: &std::ops::Range<usize>) -> [f64; 4] {
        let mut sums = [0.0; 4];
        for y in down.clone() {
            for [red, green, blue, alpha] in &self.rgba[y * self.width..][across.clone()] {
                let share = alpha / 255.0;
                let values = [red * share, green * share, blue * share, *alpha];
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum += f64::from(value);
                }
            }
        }
        let pixels = (down.len() * across.len()) as f64;
        sums.map(|sum| sum / pixels)
    }
}
