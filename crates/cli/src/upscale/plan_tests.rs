use std::fs;
use std::path::{Path, PathBuf};

use imaging::{EncodeOptions, Format, Pixels};
use upres_common::job::ErrorType;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn picture(&self, name: &str, format: Format) -> PathBuf {
        let pixels = Pixels::gray(2, 2, &[1, 2, 3, 4]);
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(
            &path,
            imaging::encode(&pixels, &EncodeOptions::new(format)).unwrap(),
        )
        .unwrap();
        path
    }
}

fn planned(inputs: &[PathBuf], out: &Path, format: FormatChoice) -> Result<Plan, PlanError> {
    plan(&Request {
        inputs,
        out,
        format,
    })
}

fn outputs(plan: &Plan) -> Vec<&Path> {
    plan.items
        .iter()
        .map(|item| item.target.as_ref().unwrap().output.as_path())
        .collect()
}

#[test]
fn the_name_of_one_output_says_its_format() {
    let folder = Folder::new();
    let input = [folder.picture("a.jpg", Format::Jpeg)];
    let format = |out: &str, choice| {
        let plan = planned(&input, &folder.path(out), choice)?;
        Ok::<_, PlanError>(plan.items[0].target.as_ref().unwrap().format)
    };
    assert_eq!(format("b.png", FormatChoice::Unsaid).unwrap(), Format::Png);
    assert_eq!(
        format("b.TIFF", FormatChoice::Unsaid).unwrap(),
        Format::Tiff
    );
    assert_eq!(format("b", FormatChoice::Unsaid).unwrap(), Format::Jpeg);
    assert_eq!(
        format("b", FormatChoice::Fixed(Format::WebP)).unwrap(),
        Format::WebP
    );
    for (out, choice, word) in [
        ("b.gif", FormatChoice::Unsaid, "not written as"),
        (
            "b.png",
            FormatChoice::Keep,
            "named like png but would be jpeg",
        ),
        (
            "b.png",
            FormatChoice::Fixed(Format::Tiff),
            "named like png but would be tiff",
        ),
    ] {
        let error = format(out, choice).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_folder_gives_its_pictures_by_name_and_keeps_their_spelling() {
    let folder = Folder::new();
    folder.picture("in/b.TIFF", Format::Tiff);
    folder.picture("in/a.png", Format::Jpeg);
    folder.picture("in/deep/c.png", Format::Png);
    folder.picture("in/.hidden.png", Format::Png);
    fs::write(folder.path("in/notes.txt"), "notes").unwrap();
    fs::write(folder.path("in/broken.webp"), "<html>").unwrap();

    let out = folder.path("out");
    let plan = planned(&[folder.path("in")], &out, FormatChoice::Keep).unwrap();
    let names: Vec<_> = plan
        .items
        .iter()
        .map(|item| item.input.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["a.png", "b.TIFF", "broken.webp"]);
    let said = plan.passed_over.sentences();
    assert_eq!(
        said,
        [
            "1 file is no picture: passed over",
            "1 folder lies inside: passed over"
        ]
    );
    // By content it is a JPEG, whatever the name says.
    assert_eq!(
        plan.items[0].target.as_ref().unwrap().output,
        out.join("a.jpg")
    );
    assert_eq!(
        plan.items[1].target.as_ref().unwrap().output,
        out.join("b.TIFF")
    );
    let failure = plan.items[2].target.as_ref().unwrap_err();
    assert_eq!(failure.kind, ErrorType::InputUnreadable);
}

#[test]
fn two_inputs_for_one_output_are_refused() {
    let folder = Folder::new();
    let inputs = [
        folder.picture("x/a.png", Format::Png),
        folder.picture("y/a.png", Format::Png),
    ];
    let error = planned(&inputs, &folder.path("out"), FormatChoice::Unsaid).unwrap_err();
    assert!(matches!(error, PlanError::SameOutput { .. }), "{error}");
    let inputs = [
        folder.picture("x/a.png", Format::Png),
        folder.picture("x/a.jpg", Format::Jpeg),
    ];
    assert!(planned(&inputs, &folder.path("out"), FormatChoice::Keep).is_ok());
    assert!(
        planned(
            &inputs,
            &folder.path("out"),
            FormatChoice::Fixed(Format::Tiff)
        )
        .is_err()
    );
}

#[test]
fn an_output_that_is_an_input_is_refused_however_it_is_spelled() {
    let folder = Folder::new();
    let inputs = [
        folder.picture("in/a.png", Format::Png),
        folder.picture("in/b.png", Format::Png),
    ];
    let error = planned(&inputs, &folder.path("in/../in"), FormatChoice::Unsaid).unwrap_err();
    assert!(
        error.to_string().contains("never written onto its source"),
        "{error}"
    );
    let one = [inputs[0].clone()];
    assert!(planned(&one, &inputs[0], FormatChoice::Unsaid).is_err());
    assert!(planned(&one, &inputs[1], FormatChoice::Unsaid).is_ok());

    let link = folder.path("link.png");
    fs::hard_link(&inputs[0], &link).unwrap();
    assert!(planned(&one, &link, FormatChoice::Unsaid).is_err());
}

#[test]
fn one_input_goes_into_a_folder_that_is_there_or_is_spelled_like_one() {
    let folder = Folder::new();
    let input = [folder.picture("a.jpg", Format::Jpeg)];
    let made = folder.path("made");
    fs::create_dir(&made).unwrap();
    let plan = planned(&input, &made, FormatChoice::Unsaid).unwrap();
    assert_eq!(outputs(&plan), [made.join("a.jpg")]);
    let slash = PathBuf::from(format!("{}/", folder.path("new").display()));
    let plan = planned(&input, &slash, FormatChoice::Fixed(Format::Png)).unwrap();
    assert_eq!(outputs(&plan), [folder.path("new").join("a.png")]);
}

#[test]
fn several_inputs_do_not_fit_into_a_file() {
    let folder = Folder::new();
    let inputs = [
        folder.picture("a.png", Format::Png),
        folder.picture("b.png", Format::Png),
    ];
    let out = folder.picture("c.png", Format::Png);
    assert!(matches!(
        planned(&inputs, &out, FormatChoice::Unsaid),
        Err(PlanError::NeedsFolder(_))
    ));
}

#[test]
fn a_missing_input_does_not_stop_the_others() {
    let folder = Folder::new();
    let inputs = [
        folder.path("missing.png"),
        folder.picture("a.png", Format::Png),
    ];
    let plan = planned(&inputs, &folder.path("out"), FormatChoice::Unsaid).unwrap();
    assert_eq!(
        plan.items[0].target.as_ref().unwrap_err().kind,
        ErrorType::InputNotFound
    );
    assert!(plan.items[1].target.is_ok());
}

#[test]
fn an_empty_folder_is_wrong_usage() {
    let folder = Folder::new();
    fs::create_dir(folder.path("in")).unwrap();
    let error = planned(
        &[folder.path("in")],
        &folder.path("out"),
        FormatChoice::Keep,
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("there is no picture in"),
        "{error}"
    );
}
