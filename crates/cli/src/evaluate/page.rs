//! A page that shows the results beside each other and needs nothing but itself.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use imaging::{EncodeOptions, Format, Pixels};

use super::degrade::Input;
use super::picture::{Attempt, Truth, cut};
use super::table::{How, Report, Row};

const FRAME: &str = include_str!("page.html");
/// Of larger pictures the page shows the middle, so that it can still be opened.
const SHOWN_SIDE: u32 = 1024;
/// High enough that the page's own compression is not what one sees.
const JPEG_QUALITY: u8 = 93;

/// The page as far as it is.
#[derive(Default)]
pub struct Page {
    pictures: String,
}

impl Page {
    /// Adds one truth with all its results.
    ///
    /// # Errors
    /// The JPEG codec's.
    pub fn add(&mut self, truth: &Truth, attempts: &[Attempt]) -> anyhow::Result<()> {
        let (width, height) = (truth.pixels.width, truth.pixels.height);
        self.pictures.push_str(&format!(
            "<h2>{} <small>{width} x {height} px</small></h2>\n",
            escaped(&truth.name)
        ));
        let whole = image(&truth.pixels)?;
        for input in Input::ALL {
            self.pictures.push_str("<div class=\"row\">");
            self.pictures.push_str(&figure(&whole, "truth", ""));
            for attempt in attempts.iter().filter(|attempt| attempt.row.input == input) {
                let heading = format!("{}, {}", input.name(), attempt.row.how);
                let numbers = caption(&attempt.row);
                let shown = image(&attempt.result)?;
                self.pictures.push_str(&figure(&shown, &heading, &numbers));
            }
            self.pictures.push_str("</div>\n");
        }
        Ok(())
    }

    /// The whole page.
    pub fn finish(self, report: &Report) -> String {
        FRAME
            .replace("{{title}}", &escaped(&report.title()))
            .replace("{{means}}", &means(report))
            .replace("{{pictures}}", &self.pictures)
    }
}

fn means(report: &Report) -> String {
    let mut table = String::from(
        "<table><tr><th>input<th>enlarged by<th>PSNR-Y dB<th>gain<th>lowest gain<th>SSIM<th>NIQE\
         <th>consistency dB<th>seconds</tr>\n",
    );
    for mean in report.means() {
        let row = &mean.row;
        let gains = if row.how == How::Bicubic {
            "<td><td>".to_owned()
        } else {
            format!("<td>{:+.2}<td>{:+.2}", row.gain_db, mean.lowest_gain_db)
        };
        table.push_str(&format!(
            "<tr><td>{}<td>{}<td>{:.2}{gains}<td>{:.3}<td>{}<td>{:.2}<td>{:.1}</tr>\n",
            row.input.name(),
            row.how,
            row.psnr_y_db,
            row.ssim,
            niqe(row),
            row.consistency_db,
            row.seconds
        ));
    }
    table.push_str("</table>");
    table
}

fn caption(row: &Row) -> String {
    let gain = if row.how == How::Bicubic {
        String::new()
    } else {
        let class = if row.gain_db < 0.0 { "less" } else { "more" };
        format!(" <span class=\"{class}\">({:+.2})</span>", row.gain_db)
    };
    format!(
        "PSNR-Y {:.2} dB{gain}, SSIM {:.3}, NIQE {}, consistency {:.2} dB",
        row.psnr_y_db,
        row.ssim,
        niqe(row),
        row.consistency_db
    )
}

fn niqe(row: &Row) -> String {
    row.niqe.map_or("-".to_owned(), |niqe| format!("{niqe:.2}"))
}

fn figure(image: &str, heading: &str, numbers: &str) -> String {
    format!(
        "<figure><div class=\"frame\"><img src=\"{image}\" alt=\"{heading}\"></div>\
         <figcaption><b>{heading}</b>{numbers}</figcaption></figure>"
    )
}

/// A data URL.
fn image(pixels: &Pixels) -> anyhow::Result<String> {
    let (width, height) = (pixels.width.min(SHOWN_SIDE), pixels.height.min(SHOWN_SIDE));
    let corner = ((pixels.width - width) / 2, (pixels.height - height) / 2);
    let options = EncodeOptions {
        jpeg_quality: JPEG_QUALITY,
        ..EncodeOptions::new(Format::Jpeg)
    };
    let file = imaging::encode(&cut(pixels, corner, (width, height)), &options)?;
    Ok(format!("data:image/jpeg;base64,{}", STANDARD.encode(file)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::table::tests::{report, row};

    #[test]
    fn the_page_holds_its_pictures_and_no_name_is_markup() {
        let pixels = Pixels::gray(1500, 8, &[9; 12_000]);
        let truth = Truth {
            name: "a <b> & c".to_owned(),
            pixels: pixels.clone(),
        };
        let attempt = Attempt {
            row: row("a", How::Bicubic, 20.0, 0.0),
            result: pixels,
        };
        let mut page = Page::default();
        page.add(&truth, &[attempt]).unwrap();
        let text = page.finish(&report());
        assert!(text.contains("a &lt;b> &amp; c") && !text.contains("{{"));
        assert_eq!(text.matches("data:image/jpeg;base64,").count(), 3);
        assert!(text.contains("lowest gain") && text.contains("-0.50"));
    }
}
