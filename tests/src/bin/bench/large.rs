//! A picture far larger than memory, from file to file: a tiled `BigTIFF` through the decoder, the
//! engine without its networks, and the encoder, and how much memory that took at most.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, ensure};
use flate2::{Compression, write::ZlibEncoder};
use imaging::{EncodeOptions, Finish, Format, Limits, Reader, SharedFile, TiffTile, Writer};
use invsr::{ColorFix, Identity, Options, RowSink, RowSource, Start, Stop, Upscale};

use crate::stream::peak_kib;

/// Side of the tiles of both files, in pixels.
const TILE_PX: u32 = 256;
/// Side of the generated picture's even cells, in pixels: what the engine keeps and deflate likes.
const CELL_PX: u32 = 64;
const SCALE: u32 = 4;
/// Rows and bands beside the engine: a row of tiles of the result and what is decoded.
const BESIDE_BYTES: u64 = 320 << 20;

/// The picture, and how much memory there is for it.
#[derive(Debug, clap::Args)]
pub(crate) struct LargeArgs {
    /// Pixels a row of the input.
    #[arg(long, default_value_t = 30_000)]
    width: u32,
    /// Rows of the input.
    #[arg(long, default_value_t = 20_000)]
    height: u32,
    /// Side of the engine's tiles, in input pixels; the sums of a row of them grow with it.
    #[arg(long, default_value_t = 64)]
    tile: u32,
    /// What neighbouring tiles share, in input pixels.
    #[arg(long, default_value_t = 8)]
    overlap: u32,
    /// Fails if more was taken, in MiB.
    #[arg(long, default_value_t = 1024)]
    at_most: u64,
    /// Where both files lie meanwhile; they are removed.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

/// Generates the picture, enlarges it, looks at the result, and prints what it took.
pub(crate) fn run(args: &LargeArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.folder)?;
    let folder = tempfile::tempdir_in(&args.folder)?;
    let (input, output) = (folder.path().join("in.tif"), folder.path().join("out.tif"));
    generate(&input, args.width, args.height).context("generate the picture")?;
    let started = Instant::now();
    enlarge(args, &input, &output)?;
    let took = started.elapsed();
    let result = examine(args, &output).context("look at the result")?;
    let peak = peak_kib()? as u64 >> 10;
    println!(
        "{}x{} px (BigTIFF of {} MB) to {}x{} px (BigTIFF of {} MB, {} MB of samples) in {:.0} s: peak memory {peak} MiB",
        args.width,
        args.height,
        std::fs::metadata(&input)?.len() / 1_000_000,
        result.0,
        result.1,
        std::fs::metadata(&output)?.len() / 1_000_000,
        u64::from(result.0) * u64::from(result.1) * 3 / 1_000_000,
        took.as_secs_f64(),
    );
    ensure!(peak < args.at_most, "more than {} MiB", args.at_most);
    Ok(())
}

/// The colour of a cell of the generated picture.
fn colour(column: u32, row: u32) -> [u8; 3] {
    let number = column.wrapping_mul(2_654_435_761) ^ row.wrapping_mul(40_503);
    let [red, green, blue, _] = number.to_le_bytes();
    // Away from black and white, where bicubic would go beyond them.
    [red, green, blue].map(|value| 64 + value / 2)
}

/// Writes a tiled `BigTIFF` of even cells; its directory is behind the tiles.
fn generate(path: &Path, width: u32, height: u32) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(b"II\x2B\0\x08\0\0\0")?;
    file.write_all(&[0; 8])?;
    let (mut offsets, mut sizes) = (Vec::new(), Vec::new());
    let mut at = 16_u64;
    for down in 0..height.div_ceil(TILE_PX) {
        for across in 0..width.div_ceil(TILE_PX) {
            let packed = tile(across * TILE_PX, down * TILE_PX)?;
            file.write_all(&packed)?;
            offsets.push(at);
            sizes.push(packed.len() as u64);
            at += packed.len() as u64;
        }
    }
    let lists = at;
    for value in offsets.iter().chain(&sizes) {
        file.write_all(&value.to_le_bytes())?;
    }
    let count = offsets.len() as u64;
    let directory = lists + 16 * count;
    // Tag, type (3 short, 16 eight bytes), count, value or where the values are.
    let entries: [(u16, u16, u64, u64); 11] = [
        (256, 4, 1, width.into()),
        (257, 4, 1, height.into()),
        (258, 3, 3, 0x0008_0008_0008),
        (259, 3, 1, 8),
        (262, 3, 1, 2),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (322, 3, 1, TILE_PX.into()),
        (323, 3, 1, TILE_PX.into()),
        (324, 16, count, lists),
        (325, 16, count, lists + 8 * count),
    ];
    file.write_all(&(entries.len() as u64).to_le_bytes())?;
    for (tag, kind, count, value) in entries {
        file.write_all(&tag.to_le_bytes())?;
        file.write_all(&kind.to_le_bytes())?;
        file.write_all(&count.to_le_bytes())?;
        file.write_all(&value.to_le_bytes())?;
    }
    file.write_all(&[0; 8])?;
    file.seek(std::io::SeekFrom::Start(8))?;
    file.write_all(&directory.to_le_bytes())?;
    file.flush()?;
    Ok(())
}

/// A tile, packed; one that reaches over the edge goes on there.
fn tile(left: u32, top: u32) -> anyhow::Result<Vec<u8>> {
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    for y in top..top + TILE_PX {
        let mut row = Vec::with_capacity(TILE_PX as usize * 3);
        for x in left..left + TILE_PX {
            row.extend(colour(x / CELL_PX, y / CELL_PX));
        }
        packed.write_all(&row)?;
    }
    Ok(packed.finish()?)
}

fn enlarge(args: &LargeArgs, input: &Path, output: &Path) -> anyhow::Result<()> {
    let file = SharedFile::new(File::open(input)?);
    let open = || Reader::open(Box::new(file.clone()), &limits(args.width, args.height));
    let reader = open()?;
    let (width, height) = (SCALE * args.width, SCALE * args.height);
    let encode = EncodeOptions {
        tiff_tile: Some(TiffTile::try_from(TILE_PX)?),
        ..reader.encode_like(Some(Format::Tiff))
    };
    let options = Options {
        tile_px: args.tile,
        overlap_px: Some(args.overlap),
        color_fix: ColorFix::None,
        memory_limit: (args.at_most << 20).checked_sub(BESIDE_BYTES),
        ..Options::default()
    };
    let mut sink = Sink {
        finish: Finish::new(open()?, &encode),
        writer: Writer::new(&encode, width, height)?,
        body: tempfile::tempfile_in(&args.folder)?,
    };
    let mut source = Rows(reader);
    Identity.upscale_rows(&mut source, Start::Row(0), &options, &mut sink, &mut ())?;
    // As the command line does: what is known last stands first.
    let ends = sink.writer.finish()?;
    let mut file = File::create(output)?;
    file.write_all(&ends.head)?;
    sink.body.rewind()?;
    std::io::copy(&mut sink.body, &mut file)?;
    file.write_all(&ends.tail)?;
    Ok(())
}

fn limits(width: u32, height: u32) -> Limits {
    Limits {
        max_pixels: u64::from(width) * u64::from(height),
        max_bytes: u64::MAX,
        max_side: width.max(height),
        ..Limits::default()
    }
}

/// The sides of the result, of which the middle of each cell in some rows must have its colour.
fn examine(args: &LargeArgs, output: &Path) -> anyhow::Result<(u32, u32)> {
    let (width, height) = (SCALE * args.width, SCALE * args.height);
    let file = File::open(output)?;
    let mut magic = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut magic, 0)?;
    ensure!(
        u64::from(width) * u64::from(height) * 3 < 4_000_000_000 || magic == *b"II+\0",
        "this is no BigTIFF"
    );
    let mut reader = Reader::open(Box::new(file), &limits(width, height))?;
    let info = reader.info().clone();
    ensure!((info.width, info.height) == (width, height), "{info:?}");
    let cell = SCALE * CELL_PX;
    let mut row = vec![0; reader.row_bytes()];
    for part in 0..8 {
        let y = (height - 1) / 8 * part / cell * cell + cell / 2;
        reader.skip_rows(y.min(height - 1) - reader.next_row())?;
        reader.read_rows(&mut row)?;
        for x in (cell / 2..width).step_by(cell as usize) {
            let (found, _) = row[3 * x as usize..].as_chunks::<3>();
            let expected = colour(x / cell, y.min(height - 1) / cell);
            ensure!(
                found[0]
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| a.abs_diff(b) <= 1),
                "at {x}, {y}: {:?} in place of {expected:?}",
                found[0]
            );
        }
    }
    Ok((width, height))
}

struct Rows(Reader<'static>);

impl RowSource for Rows {
    fn width(&self) -> u32 {
        self.0.info().width
    }

    fn height(&self) -> u32 {
        self.0.info().height
    }

    fn read_row(&mut self, row: &mut [f32]) -> Result<(), Stop> {
        self.0.read_unit_rows(row)?;
        Ok(())
    }
}

struct Sink {
    finish: Finish<'static>,
    writer: Writer,
    /// All of the file but its beginning.
    body: File,
}

impl RowSink for Sink {
    fn take(&mut self, first_row: u32, rows: &[f32]) -> Result<(), Stop> {
        self.writer
            .push_samples(&self.finish.rows(first_row, rows)?)?;
        self.body.write_all(&self.writer.take())?;
        Ok(())
    }
}
