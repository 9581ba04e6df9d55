//! Half precision without a GPU: the library's CPU backend computes `f16`, too slowly to be offered,
//! but by the same code path as a card.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::noise::InjectedNoise;
use crate::scheduler::Schedule;
use crate::upscale::{Observer, Upscale as _, Widened};
use crate::{RgbImage, Size, write_random_model};

/// The tile whose noise is so large that `f16` cannot hold what the decoder makes of it.
const LOUD: usize = 1;
const TILES: usize = 3;

/// A random model whose decoder begins with large weights; the norms behind them take the size out
/// again.
fn model_with_large_weights() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_random_model(Size::Tiny, 7, folder.path()).unwrap();
    let file = folder
        .path()
        .join("vae/diffusion_pytorch_model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let weight = tensors.get_mut("decoder.conv_in.weight").unwrap();
    *weight = (&*weight * 100.0).unwrap();
    candle_core::safetensors::save(&tensors, &file).unwrap();
    folder
}

fn load(folder: &Path, dtype: DType) -> InvSr {
    InvSr::load_on(folder, &Device::Cpu, dtype).unwrap()
}

fn noise(folder: &Path, loudness: f64) -> InjectedNoise {
    // Bounded, and the same in every run: a single draw far out would overflow in another stage.
    let normals = || {
        let values = (0..TILES * 4 * 8 * 8).map(|i| ((i * 7919 % 997) as f32 / 498.0 - 1.0) * 1.7);
        Tensor::from_iter(values, &Device::Cpu)
            .and_then(|flat| flat.reshape((TILES, 4, 8, 8)))
            .unwrap()
    };
    let loud = (normals().narrow(0, LOUD, 1).unwrap() * loudness).unwrap();
    let predictor = normals().slice_scatter0(&loud, LOUD).unwrap();
    let tensors = HashMap::from([("predictor_eps", predictor), ("vae_eps", normals())]);
    let path = folder.join("noise.safetensors");
    candle_core::safetensors::save(&tensors, &path).unwrap();
    InjectedNoise::read(&path).unwrap()
}

#[derive(Default)]
struct Kept(HashMap<String, Tensor>);

impl Observer for Kept {
    fn tensor(&mut self, name: &str, value: &Tensor) -> candle_core::Result<()> {
        self.0.insert(name.to_owned(), value.clone());
        Ok(())
    }

    fn wants_tensors(&self) -> bool {
        true
    }
}

impl Kept {
    /// What was kept of one tile.
    fn tile(&self, name: &str, tile: usize) -> Vec<f32> {
        let row = self.0[name].get(tile).unwrap();
        row.flatten_all().unwrap().to_vec1().unwrap()
    }
}

struct Ran {
    kept: Kept,
    image: Vec<f32>,
    widened: Option<Widened>,
}

fn run(model: &mut InvSr, noise: &InjectedNoise, tile_batch: usize) -> Ran {
    let data = (0..16 * 32 * 3u16).map(|i| f32::from(i.wrapping_mul(73) % 256) / 255.0);
    let image = RgbImage::new(32, 16, data.collect()).unwrap();
    let options = Options {
        schedule: Schedule::new(&[200, 100]).unwrap(),
        tile_px: 16,
        tile_batch,
        noise: Some(noise.clone()),
        ..Options::default()
    };
    let mut kept = Kept::default();
    let done = model.upscale(&image, &options, &mut kept).unwrap();
    assert_eq!(done.tiles, TILES);
    Ran {
        kept,
        image: done.image.data,
        widened: done.widened,
    }
}

#[test]
fn a_tile_that_half_precision_cannot_hold_is_computed_in_f32_and_the_others_are_not() {
    let folder = model_with_large_weights();
    let noise = noise(folder.path(), 1e3);
    let wide = run(&mut load(folder.path(), DType::F32), &noise, 1);
    assert_eq!(wide.widened, None);
    let mut half_model = load(folder.path(), DType::F16);
    let half = run(&mut half_model, &noise, 3);
    let widened = half.widened.unwrap();
    assert_eq!((widened.tiles, widened.first_tile), (1, LOUD));
    for name in ["noise_mean", "start_latent", "latent_1", "decoded_tiles"] {
        for tile in 0..TILES {
            let (half, wide) = (half.kept.tile(name, tile), wide.kept.tile(name, tile));
            assert!(
                half.iter().all(|value| value.is_finite()),
                "{name} of {tile}"
            );
            assert_eq!(half == wide, tile == LOUD, "{name} of {tile}");
        }
    }
    for tile_batch in [1, 2] {
        let other = run(&mut half_model, &noise, tile_batch);
        assert_eq!(other.widened, half.widened);
        assert!(other.image == half.image, "the batch shows in the output");
    }
}

#[test]
fn what_half_precision_holds_is_not_computed_twice() {
    let folder = model_with_large_weights();
    let noise = noise(folder.path(), 1.0);
    assert_eq!(
        run(&mut load(folder.path(), DType::F16), &noise, 3).widened,
        None
    );
}

#[test]
fn a_tile_that_f32_cannot_hold_either_is_an_error_that_names_stage_and_tile() {
    let folder = model_with_large_weights();
    let noise = noise(folder.path(), 1e38);
    for dtype in [DType::F32, DType::F16] {
        let mut model = load(folder.path(), dtype);
        let image = RgbImage::new(32, 16, vec![0.5; 32 * 16 * 3]).unwrap();
        let options = Options {
            tile_px: 16,
            noise: Some(noise.clone()),
            ..Options::default()
        };
        let error = model.upscale(&image, &options, &mut ()).unwrap_err();
        let UpscaleError::NonFinite { stage, tile } = error else {
            panic!("{error}");
        };
        assert_eq!((stage, tile), ("vae decode", LOUD));
    }
}

#[test]
fn networks_that_are_gone_when_f32_is_needed_are_named() {
    let folder = model_with_large_weights();
    let noise = noise(folder.path(), 1e3);
    let mut model = load(folder.path(), DType::F16);
    fs::remove_dir_all(folder.path().join("unet")).unwrap();
    let image = RgbImage::new(32, 16, vec![0.5; 32 * 16 * 3]).unwrap();
    let options = Options {
        tile_px: 16,
        noise: Some(noise),
        ..Options::default()
    };
    let error = model.upscale(&image, &options, &mut ()).unwrap_err();
    assert!(error.to_string().contains("in f32 for tile 1"), "{error}");
}

#[test]
fn the_sentence_counts() {
    let widened = |tiles| Widened {
        tiles,
        first_tile: 7,
        stage: "vae decode",
    };
    assert_eq!(
        widened(1).to_string(),
        "1 tile was computed again in f32, tile 7: its vae decode left the range of half precision"
    );
    assert!(
        widened(2)
            .to_string()
            .starts_with("2 tiles were computed again in f32, first tile 7:")
    );
}
