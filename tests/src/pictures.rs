//! Pictures that the tests make.

/// A small picture with edges, colours and a gradient, as PNG.
#[must_use]
pub fn photo(width: u32, height: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        let shade = |value: u32| u8::try_from(value % 256).unwrap_or_default();
        let line = if (x / 5 + y / 7) % 2 == 0 { 90 } else { 0 };
        image::Rgb([
            shade(x * 9 + line),
            shade(y * 11),
            shade((x + y) * 5 + line),
        ])
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .expect("a picture in memory can be encoded");
    file.into_inner()
}

/// A picture that is hardly compressible, so that its result has several parts.
#[must_use]
pub fn grain(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let picture = image::RgbImage::from_fn(width, height, |_, _| {
        image::Rgb([0, 8, 16].map(|shift| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from((state >> (shift / 2 + 8)) & 0xff).unwrap_or_default()
        }))
    });
    let mut file = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut file, image::ImageFormat::Png)
        .expect("a picture in memory can be encoded");
    file.into_inner()
}

/// [`grain`] of 16 bits with transparency.
#[must_use]
pub fn deep_grain(width: u32, height: u32) -> Vec<u8> {
    let mut state = 1u32;
    let picture = image::ImageBuffer::from_fn(width, height, |_, _| {
        image::Rgba([0; 4].map(|_: u16| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u16::try_from(state >> 16).unwrap_or_default()
        }))
    });
    let mut file = std::io::Cursor::new(Vec::new());
    image::DynamicImage::ImageRgba16(picture)
        .write_to(&mut file, image::ImageFormat::Png)
        .expect("a picture in memory can be encoded");
    file.into_inner()
}

/// A TIFF of pages of grain: a large one, three of a single tile each, and a high gray one.
#[must_use]
pub fn book() -> Vec<u8> {
    let page = |width, height, gray| imaging::Page {
        options: imaging::EncodeOptions {
            gray,
            ..imaging::EncodeOptions::new(imaging::Format::Tiff)
        },
        width,
        height,
    };
    let pages = vec![
        page(512, 900, false),
        page(60, 40, false),
        page(30, 90, true),
        page(100, 100, false),
        page(400, 1000, true),
    ];
    let mut writer = imaging::Writer::of_pages(pages.clone()).expect("pages of one format");
    let mut body = Vec::new();
    let mut state = 1u32;
    for imaging::Page {
        options,
        width,
        height,
    } in pages
    {
        let samples = width * height * if options.gray { 1 } else { 3 };
        let samples: Vec<u8> = (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        writer.push_samples(&samples).expect("whole pages");
        body.extend(writer.take());
    }
    let imaging::Finished { head, tail } = writer.finish().expect("all pages");
    [head, body, tail].concat()
}
