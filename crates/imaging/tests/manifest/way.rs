//! The whole way of a file with an engine that repeats every pixel sixteen times, and what a picture is
//! on average.

use imaging::{EncodeOptions, Finish, Finished, Limits, Reader, Writer};

/// The result of a file.
pub fn upscale(file: &[u8], options: &EncodeOptions) -> Vec<u8> {
    let open = || Reader::from_bytes(file, &Limits::default()).unwrap();
    let mut reader = open();
    let (width, height) = (reader.info().width, reader.info().height);
    let mut finish = Finish::new(open(), options);
    let mut writer = Writer::new(options, 4 * width, 4 * height).unwrap();
    let mut body = Vec::new();
    let mut row = vec![0.0; reader.row_bytes()];
    while reader.next_row() < height {
        reader.read_unit_rows(&mut row).unwrap();
        let wide: Vec<f32> = row.chunks(3).flat_map(|pixel| pixel.repeat(4)).collect();
        let samples = finish.rows(writer.next_row(), &wide.repeat(4)).unwrap();
        writer.push_samples(&samples).unwrap();
        body.extend(writer.take());
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
