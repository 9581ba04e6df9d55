//! A file of several pages, all the way to a result of as many.

use std::{collections::HashMap, io::Cursor};

use imaging::{DecodeError, Limits, Reader, page_count};

use super::{
    Reading, Row, check_means, check_metadata, options_of,
    way::{Picture, upscale_pages},
};

fn open_page(file: &[u8], page: u32) -> Reader<'_> {
    Reader::open_page(Box::new(Cursor::new(file)), &Limits::default(), page).unwrap()
}

/// Every page is there, in its place and its kind.
pub fn check(row: &Row, file: &[u8], readings: &HashMap<String, Reading>) {
    let name = &row.name;
    let refused = Reader::from_bytes(file, &Limits::default()).err().unwrap();
    assert!(
        matches!(refused, DecodeError::SeveralPages { .. }),
        "{name}"
    );
    let count = |file: &[u8]| {
        let file = Cursor::new(file.to_vec());
        page_count(Box::new(file), &Limits::default()).unwrap()
    };
    let pages = count(file);
    assert_eq!(pages, row.pages, "{name}");
    let options: Vec<_> = (0..pages)
        .map(|page| options_of(&open_page(file, page)))
        .collect();
    let result = upscale_pages(file, &options);
    assert_eq!(count(&result), pages, "{name}");
    for page in 0..pages {
        let reading = readings.get(&format!("{name}#{}", page + 1));
        let reading = reading.unwrap_or_else(|| panic!("{name}: a page was not recorded"));
        let (source, found) = (open_page(file, page), open_page(&result, page));
        let (info, found_info) = (source.info().clone(), found.info());
        assert_eq!((info.width, info.height), (reading.width, reading.height));
        assert_eq!(
            (found_info.width, found_info.height),
            (4 * info.width, 4 * info.height)
        );
        assert_eq!(info.gray, reading.channels == "L", "{name}");
        assert_eq!((found_info.gray, found_info.depth), (info.gray, info.depth));
        check_metadata(row, &source, &found);
        let picture = Picture::page(&result, page as usize, 4);
        check_means(name, &picture, &info, false, reading);
    }
}
