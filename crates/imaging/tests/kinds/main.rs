//! Every kind of sample that is read: what it becomes for the engine, and what the result is to be.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod png;
mod tiff;

use imaging::{Depth, Limits, Reader};

/// What the engine sees, and (gray, alpha, depth) of the result.
fn seen(file: &[u8]) -> (Vec<f32>, (bool, bool, Depth)) {
    let mut reader = Reader::from_bytes(file, &Limits::default()).unwrap();
    let info = reader.info().clone();
    let mut unit = vec![0.0; reader.row_bytes() * info.height as usize];
    assert_eq!(reader.read_unit_rows(&mut unit).unwrap(), info.height);
    let options = reader.encode_like(None);
    let result = (options.gray, options.alpha, options.depth);
    assert_eq!(result, (info.gray, info.alpha, info.depth));
    (unit, result)
}

fn assert_near(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < 1e-5, "{found:?}, not {expected:?}");
    }
}

/// Each value three times.
fn gray(values: &[f32]) -> Vec<f32> {
    values.iter().flat_map(|value| [*value; 3]).collect()
}

#[test]
fn transparent_webp_keeps_its_alpha() {
    let mut file = Vec::new();
    let encoder = image_webp::WebPEncoder::new(&mut file);
    let samples = [51, 0, 255, 128, 0, 51, 0, 255];
    encoder
        .encode(&samples, 2, 1, image_webp::ColorType::Rgba8)
        .unwrap();
    let (unit, result) = seen(&file);
    assert_eq!(result, (false, true, Depth::Eight));
    assert_near(&unit, &[0.2, 0.0, 1.0, 0.0, 0.2, 0.0]);
}
