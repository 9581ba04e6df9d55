//! Colours come out as they went in, measured by CIEDE2000 on results of the bundled model that were
//! reduced again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imaging::{EncodeOptions, Format, Limits};
use moxcms::ColorProfile;

/// CIE Lab under D50.
type Lab = [f64; 3];

/// A colour space of RGB: how samples become light, and light becomes XYZ.
struct Space {
    profile: ColorProfile,
    gamma: fn(f64) -> f64,
}

fn srgb_curve(sample: f64) -> f64 {
    if sample <= 0.040_45 {
        sample / 12.92
    } else {
        ((sample + 0.055) / 1.055).powf(2.4)
    }
}

impl Space {
    fn srgb() -> Self {
        Self {
            profile: ColorProfile::new_srgb(),
            gamma: srgb_curve,
        }
    }

    fn wide() -> [(&'static str, Self); 2] {
        let display_p3 = Self {
            profile: ColorProfile::new_display_p3(),
            gamma: srgb_curve,
        };
        let adobe_rgb = Self {
            profile: ColorProfile::new_adobe_rgb(),
            gamma: |sample| sample.powf(2.199_218_75),
        };
        [("Display P3", display_p3), ("Adobe RGB", adobe_rgb)]
    }

    /// - `rgb`: in `[0, 255]`.
    fn lab(&self, rgb: [f64; 3]) -> Lab {
        let light = rgb.map(|sample| (self.gamma)(sample / 255.0));
        let [x, y, z] = self.profile.colorant_matrix().v.map(|row| {
            let products = row.iter().zip(light).map(|(a, b)| a * b);
            products.sum::<f64>()
        });
        let value = |t: f64| {
            if t > 216.0 / 24_389.0 {
                t.cbrt()
            } else {
                t * 841.0 / 108.0 + 4.0 / 29.0
            }
        };
        let [x, y, z] = [value(x / 0.9642), value(y), value(z / 0.8249)];
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }
}

/// CIEDE2000 (CIE 142) with all weights 1.
fn difference([l1, a1, b1]: Lab, [l2, a2, b2]: Lab) -> f64 {
    let seventh = |chroma: f64| (chroma.powi(7) / (chroma.powi(7) + 25_f64.powi(7))).sqrt();
    let g = 0.5 * (1.0 - seventh(f64::midpoint(a1.hypot(b1), a2.hypot(b2))));
    let polar = |a: f64, b: f64| {
        let a = (1.0 + g) * a;
        (a.hypot(b), b.atan2(a).to_degrees().rem_euclid(360.0))
    };
    let ((c1, h1), (c2, h2)) = (polar(a1, b1), polar(a2, b2));
    let gray = c1 * c2 == 0.0;
    let turn = match h2 - h1 {
        _ if gray => 0.0,
        turn if turn > 180.0 => turn - 360.0,
        turn if turn < -180.0 => turn + 360.0,
        turn => turn,
    };
    let hue = if gray {
        h1 + h2
    } else {
        (h1 + turn / 2.0).rem_euclid(360.0)
    };
    let (lightness, chroma) = (f64::midpoint(l1, l2), f64::midpoint(c1, c2));
    let cos = |degrees: f64| degrees.to_radians().cos();
    let t = 1.0 - 0.17 * cos(hue - 30.0) + 0.24 * cos(2.0 * hue) + 0.32 * cos(3.0 * hue + 6.0)
        - 0.20 * cos(4.0 * hue - 63.0);
    let from_middle = (lightness - 50.0).powi(2);
    let by_lightness = (l2 - l1) / (1.0 + 0.015 * from_middle / (20.0 + from_middle).sqrt());
    let by_chroma = (c2 - c1) / (1.0 + 0.045 * chroma);
    let by_hue =
        2.0 * (c1 * c2).sqrt() * (turn / 2.0).to_radians().sin() / (1.0 + 0.015 * chroma * t);
    let rotation = 60.0 * (-((hue - 275.0) / 25.0).powi(2)).exp();
    let rotated = -2.0 * seventh(chroma) * rotation.to_radians().sin();
    (by_lightness.powi(2) + by_chroma.powi(2) + by_hue.powi(2) + rotated * by_chroma * by_hue)
        .sqrt()
}

/// Pairs of the paper that introduced the test data (Sharma, Wu and Dalal 2005).
#[test]
fn the_difference_is_that_of_the_published_pairs() {
    let pairs: [(Lab, Lab, f64); 7] = [
        ([50.0, 2.6772, -79.7751], [50.0, 0.0, -82.7485], 2.0425),
        ([50.0, 3.1571, -77.2803], [50.0, 0.0, -82.7485], 2.8615),
        ([50.0, 0.0, 0.0], [50.0, -1.0, 2.0], 2.3669),
        ([50.0, 2.5, 0.0], [73.0, 25.0, -18.0], 27.1492),
        (
            [60.2574, -34.0099, 36.2677],
            [60.4626, -34.1751, 39.4387],
            1.2644,
        ),
        (
            [22.7233, 20.0904, -46.6940],
            [23.0331, 14.9730, -42.5619],
            2.0373,
        ),
        (
            [2.0776, 0.0795, -1.1350],
            [0.9033, -0.0636, -0.5514],
            0.9082,
        ),
    ];
    for (one, other, expected) in pairs {
        for found in [difference(one, other), difference(other, one)] {
            assert!(
                (found - expected).abs() < 1e-4,
                "{one:?} {other:?}: {found}"
            );
        }
    }
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The means of squares of `scale` pixels.
fn reduced(file: &[u8], scale: u32) -> Vec<[f64; 3]> {
    let picture = image::load_from_memory(file).expect("decodes").into_rgb8();
    let mean = |x: u32, y: u32| {
        let places = (0..scale * scale).map(|i| (x * scale + i % scale, y * scale + i / scale));
        let mut sum = [0.0; 3];
        for (x, y) in places {
            for (sum, sample) in sum.iter_mut().zip(picture.get_pixel(x, y).0) {
                *sum += f64::from(sample);
            }
        }
        sum.map(|sum| sum / f64::from(scale * scale))
    };
    let (width, height) = (picture.width() / scale, picture.height() / scale);
    (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .map(|(x, y)| mean(x, y))
        .collect()
}

fn mean_difference(before: impl Iterator<Item = Lab>, after: impl Iterator<Item = Lab>) -> f64 {
    let differences: Vec<f64> = before.zip(after).map(|(a, b)| difference(a, b)).collect();
    differences.iter().sum::<f64>() / differences.len() as f64
}

#[test]
fn a_picture_of_a_wide_space_keeps_its_colours() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sample = fs::read(repository("samples/coffee.png")).expect("it is in the repository");
    let pixels = imaging::decode(&sample, &Limits::default())
        .expect("decodes")
        .pixels;
    for (name, space) in Space::wide() {
        let icc = space.profile.encode().expect("a profile");
        let options = EncodeOptions {
            icc: Some(icc.clone()),
            ..EncodeOptions::new(Format::Png)
        };
        let source = imaging::encode(&pixels, &options).expect("encodes");
        fs::write(folder.path().join("in.png"), &source).expect("writes");
        let model = repository("models/upres-tiny");
        let status = Command::new(env!("CARGO_BIN_EXE_upres"))
            .current_dir(folder.path())
            .args([
                "upscale",
                "in.png",
                "-o",
                "out.png",
                "--overwrite",
                "--steps",
                "1",
                "--model",
            ])
            .arg(model)
            .status()
            .expect("the program starts");
        assert!(status.success());
        let result = fs::read(folder.path().join("out.png")).expect("a result");
        let (before, after) = (reduced(&source, 1), reduced(&result, 4));
        assert_eq!(before.len(), after.len());
        let lab = |pixels: &[[f64; 3]], space: &Space| {
            pixels.iter().map(|rgb| space.lab(*rgb)).collect::<Vec<_>>()
        };
        let expected = lab(&before, &space);
        let found = mean_difference(expected.iter().copied(), lab(&after, &space).into_iter());
        println!("{name}: mean CIEDE2000 {found:.2}");
        assert!(found < 1.0, "{name}: {found}");
        // Who forgets the profile sees another picture.
        let mistaken = lab(&before, &Space::srgb());
        assert!(mean_difference(expected.into_iter(), mistaken.into_iter()) > 2.0);
        let found = imaging::Reader::from_bytes(&result, &Limits::default()).expect("decodes");
        assert_eq!(found.icc(), Some(icc.as_slice()), "{name}");
    }
}
