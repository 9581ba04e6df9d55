use std::io::{Seek, Write};

use super::*;

fn read_all(name: &str, bytes: &[u8], from: u64) -> Result<Vec<Read>, ManifestError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    let mut manifest = Manifest::from_file(file, name)?;
    manifest.skip_to(from, &CancellationToken::new())?;
    let position = Position {
        line: from,
        ..Position::default()
    };
    Ok(manifest.next(usize::MAX, position)?.reads)
}

#[test]
fn lines_keep_their_numbers_and_their_faults() {
    let text = b"{\"input\":\"s3://in-1/1.tif\"}\n\n{\"input\":\"s3://in-1/2.tif\",\"colour\":1}\nnothing\n";
    let reads = read_all("list.jsonl", text, 0).unwrap();
    let lines: Vec<_> = reads.iter().map(|read| read.line).collect();
    assert_eq!(lines, [1, 3, 4]);
    assert!(reads[0].item.is_ok());
    assert!(reads[1].item.as_ref().unwrap_err().contains("colour"));
    assert_eq!(reads[2].input, "nothing");
    assert_eq!(read_all("list.ndjson", text, 1).unwrap().len(), 2);
}

#[test]
fn a_carriage_return_within_a_line_hides_nothing() {
    let table = b"input\r\ns3://in-1/1.tif\r\ns3://in-1/2.tif\rs3://in-1/3.tif\r\n";
    let reads = read_all("list.csv", table, 0).unwrap();
    assert_eq!(reads.len(), 2);
    assert!(reads[0].item.is_ok());
    assert!(
        reads[1]
            .item
            .as_ref()
            .unwrap_err()
            .contains("carriage return")
    );
    let broken = read_all("list.csv", b"input\rs3://in-1/1.tif\r", 0).unwrap_err();
    assert!(broken.to_string().contains("carriage return"), "{broken}");
}

#[test]
fn on_the_way_to_a_line_it_can_be_stopped() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"{\"input\":\"s3://in-1/1.tif\"}\n")
        .unwrap();
    file.rewind().unwrap();
    let mut manifest = Manifest::from_file(file, "list.jsonl").unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let stopped = manifest.skip_to(1, &stop);
    assert!(
        matches!(stopped, Err(ManifestError::Stopped)),
        "{stopped:?}"
    );
}

/// A few megabytes of gzip are gigabytes of nothing, and others wait for their turn.
#[test]
fn nothing_is_read_for_ever() {
    let item = b"{\"input\":\"s3://in-1/1.tif\"}\n";
    for (nothing, complaint) in [
        (b'\n', "empty lines"),
        (b'x', "a line has more than 16 MiB"),
    ] {
        let mut text = item.to_vec();
        text.resize(usize::try_from(2 * MAX_PASSED_BYTES).unwrap(), nothing);
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(&text).unwrap();
        let name = "list.jsonl.gz";
        let bytes = zipped.finish().unwrap();
        assert_eq!(read_all(name, &bytes, 0).unwrap().len(), 1);
        let error = read_all(name, &bytes, 1).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_chunk_ends_behind_many_bytes() {
    let long = format!("{{\"input\":\"{}\"}}\n", "x".repeat(60_000));
    let lines = usize::try_from(CHUNK_BYTES).unwrap() / long.len() + 10;
    let reads = read_all("list.jsonl", long.repeat(lines).as_bytes(), 0).unwrap();
    assert!(reads.len() < lines, "{} of {lines}", reads.len());
}

#[test]
fn a_table_says_the_same_as_json_plain_or_compressed() {
    let text = "\u{feff}input,output,timesteps,seed,priority,label.box\n\
        s3://in-1/1.tif,s3://out-1/1.tif,\"250,150,50\",7,-3,12\n\
        s3://in-1/2.tif,,,,,\n\
        s3://in-1/3.tif,,,many,,\n\
        s3://in-1/4.tif\n";
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(text.as_bytes()).unwrap();
    let zipped = zipped.finish().unwrap();
    for (name, bytes) in [("m.csv", text.as_bytes()), ("m.csv.gz", &zipped)] {
        let reads = read_all(name, bytes, 0).unwrap();
        let first = reads[0].item.clone().unwrap();
        let upscale = first.upscale.unwrap();
        assert_eq!(upscale.timesteps, Some(vec![250, 150, 50]));
        assert_eq!((upscale.seed, first.priority), (Some(7), Some(-3)));
        assert_eq!(first.labels["box"], "12");
        assert!(reads[1].item.as_ref().unwrap().upscale.is_none());
        assert!(reads[2].item.as_ref().unwrap_err().contains("seed"));
        assert!(reads[3].item.as_ref().unwrap_err().contains("cells"));
        assert_eq!(reads[3].line, 5);
        assert_eq!(read_all(name, bytes, 3).unwrap().len(), 2);
    }
}

#[test]
fn a_line_that_is_spoilt_spoils_no_other() {
    let long = format!("s3://in-1/{}.tif,\n", "x".repeat(70_000));
    let mut text = b"\xef\xbb\xbfinput,output\ns3://in-1/1.tif,\ns3://in-1/caf\xe9.tif,\n".to_vec();
    text.extend(b"\"s3://in-1/2.tif,\ns3://in-1/3.tif,\n");
    text.extend(long.as_bytes());
    text.extend(b"s3://in-1/4.tif,");
    let reads = read_all("m.csv", &text, 0).unwrap();
    let lines: Vec<_> = reads
        .iter()
        .map(|read| (read.line, read.item.is_ok()))
        .collect();
    let expected = [
        (2, true),
        (3, false),
        (4, false),
        (5, true),
        (6, false),
        (7, true),
    ];
    assert_eq!(lines, expected);
    for (read, word) in [(1, "UTF-8"), (2, "quote"), (4, "64 KiB")] {
        let detail = reads[read].item.as_ref().unwrap_err();
        assert!(detail.contains(word), "{detail}");
    }
    let mut text = b"\xef\xbb\xbf{\"input\":\"s3://in-1/1.tif\"}\n".to_vec();
    text.extend(long.as_bytes());
    text.extend(b"{\"input\":\"s3://in-1/2.tif\"}");
    let reads = read_all("m.jsonl", &text, 0).unwrap();
    let lines: Vec<_> = reads
        .iter()
        .map(|read| (read.line, read.item.is_ok()))
        .collect();
    assert_eq!(lines, [(1, true), (2, false), (3, true)]);
}

#[test]
fn what_is_before_a_break_is_given_out_and_then_the_break() {
    let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    zipped
        .write_all(b"{\"input\":\"s3://in-1/1.tif\"}\n")
        .unwrap();
    zipped.flush().unwrap();
    zipped
        .write_all(b"{\"input\":\"s3://in-1/2.tif\"}\n")
        .unwrap();
    let mut zipped = zipped.finish().unwrap();
    zipped.truncate(zipped.len() - 20);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&zipped).unwrap();
    file.rewind().unwrap();
    let mut manifest = Manifest::from_file(file, "m.jsonl.gz").unwrap();
    let chunk = manifest.next(1000, Position::default()).unwrap();
    assert_eq!((chunk.reads.len(), chunk.end), (1, false));
    let broken = manifest.next(1000, chunk.position);
    assert!(
        matches!(broken, Err(ManifestError::Broken(1, _))),
        "{broken:?}"
    );
}

#[test]
fn what_is_no_manifest_says_why() {
    for (name, text) in [
        ("m.txt", ""),
        ("m.csv", "output\n"),
        ("m.csv", "input,colour\n"),
    ] {
        assert!(read_all(name, text.as_bytes(), 0).is_err(), "{name} {text}");
    }
    let cut = &[0x1f, 0x8b, 8, 0][..];
    assert!(matches!(
        read_all("m.jsonl.gz", cut, 0),
        Err(ManifestError::Broken(0, _))
    ));
}
