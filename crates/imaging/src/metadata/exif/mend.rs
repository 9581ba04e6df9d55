//! What is no longer true of a picture that was turned upright and enlarged.

use super::{Exif, Field, set, tags};

/// What became of the picture.
#[derive(Debug, Clone, Copy)]
pub(in crate::metadata) struct Mend<'a> {
    /// Of the result, in pixels.
    pub width: u32,
    /// Of the result, in pixels.
    pub height: u32,
    /// Result pixels for each of the source, in each direction.
    pub scale: u32,
    /// The source was stored in another orientation.
    pub turned: bool,
    pub strip_gps: bool,
    /// Who made the result.
    pub software: Option<&'a str>,
}

impl Exif {
    /// Mends what depends on the pixels, in place. The thumbnail is not there any more: it was in a
    /// directory that is not read.
    pub(in crate::metadata) fn mend(&mut self, mend: &Mend<'_>) {
        if mend.strip_gps {
            self.gps.clear();
        }
        // Upright, whatever it was.
        let upright = self.short(1);
        set(
            &mut self.image,
            Field {
                tag: tags::ORIENTATION,
                kind: tags::SHORT,
                data: upright,
            },
        );
        if let Some(software) = mend.software {
            let data = [software.as_bytes(), &[0]].concat();
            set(
                &mut self.image,
                Field {
                    tag: tags::SOFTWARE,
                    kind: tags::ASCII,
                    data,
                },
            );
        }
        self.photo
            .retain(|field| field.tag != tags::COMPRESSED_BITS);
        if !self.photo.is_empty() {
            for (tag, side) in [
                (tags::PIXEL_X_DIMENSION, mend.width),
                (tags::PIXEL_Y_DIMENSION, mend.height),
            ] {
                let data = self.long(side);
                set(
                    &mut self.photo,
                    Field {
                        tag,
                        kind: tags::LONG,
                        data,
                    },
                );
            }
        }
        self.scale_resolutions(mend.scale);
        self.scale_places(mend);
    }

    /// The sensor had so many pixels to a length; the result has more.
    fn scale_resolutions(&mut self, scale: u32) {
        for tag in [
            tags::FOCAL_PLANE_X_RESOLUTION,
            tags::FOCAL_PLANE_Y_RESOLUTION,
        ] {
            let Some(at) = self.photo.iter().position(|field| field.tag == tag) else {
                continue;
            };
            let scaled = match self.numbers(&self.photo[at])[..] {
                [numerator, denominator] if self.photo[at].kind == tags::RATIONAL => numerator
                    .checked_mul(scale)
                    .map(|numerator| [self.long(numerator), self.long(denominator)].concat()),
                _ => None,
            };
            match scaled {
                Some(data) => self.photo[at].data = data,
                None => drop(self.photo.remove(at)),
            }
        }
    }

    /// Where the subject is, in pixels. In a picture that was turned it is somewhere else.
    fn scale_places(&mut self, mend: &Mend<'_>) {
        for tag in [tags::SUBJECT_AREA, tags::SUBJECT_LOCATION] {
            let Some(at) = self.photo.iter().position(|field| field.tag == tag) else {
                continue;
            };
            let places = self.numbers(&self.photo[at]);
            let scaled: Option<Vec<u8>> = places
                .iter()
                .map(|place| u16::try_from(place.checked_mul(mend.scale)?).ok())
                .map(|place| place.map(|place| self.short(place)))
                .collect::<Option<Vec<_>>>()
                .map(|places| places.concat());
            match scaled.filter(|data| !mend.turned && !data.is_empty()) {
                Some(data) => {
                    self.photo[at].kind = tags::SHORT;
                    self.photo[at].data = data;
                }
                None => drop(self.photo.remove(at)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mend(turned: bool) -> Mend<'static> {
        Mend {
            width: 800,
            height: 400,
            scale: 4,
            turned,
            strip_gps: true,
            software: Some("upres"),
        }
    }

    fn exif() -> Exif {
        let field = |tag, kind, data: &[u8]| Field {
            tag,
            kind,
            data: data.to_vec(),
        };
        Exif {
            big_endian: true,
            image: vec![
                field(tags::ORIENTATION, tags::SHORT, &[0, 6]),
                field(tags::SOFTWARE, tags::ASCII, b"scanner\0"),
            ],
            photo: vec![
                field(
                    tags::COMPRESSED_BITS,
                    tags::RATIONAL,
                    &[0, 0, 0, 4, 0, 0, 0, 1],
                ),
                field(tags::SUBJECT_AREA, tags::SHORT, &[0, 10, 1, 0]),
                field(
                    tags::FOCAL_PLANE_X_RESOLUTION,
                    tags::RATIONAL,
                    &[0, 0, 1, 0, 0, 0, 0, 3],
                ),
            ],
            gps: vec![field(1, tags::ASCII, b"N\0")],
            ..Exif::default()
        }
    }

    #[test]
    fn sizes_orientation_and_places_are_those_of_the_result() {
        let mut mended = exif();
        mended.mend(&mend(false));
        assert!(mended.gps.is_empty());
        assert_eq!(mended.image[0].data, [0, 1]);
        assert_eq!(mended.text(tags::SOFTWARE).as_deref(), Some("upres"));
        let photo: Vec<_> = mended
            .photo
            .iter()
            .map(|field| (field.tag, &field.data[..]))
            .collect();
        assert_eq!(
            photo,
            [
                (tags::SUBJECT_AREA, &[0, 40, 4, 0][..]),
                (tags::PIXEL_X_DIMENSION, &[0, 0, 3, 32]),
                (tags::PIXEL_Y_DIMENSION, &[0, 0, 1, 144]),
                (tags::FOCAL_PLANE_X_RESOLUTION, &[0, 0, 4, 0, 0, 0, 0, 3]),
            ]
        );
    }

    #[test]
    fn a_place_in_a_picture_that_was_turned_is_left_out() {
        let mut mended = exif();
        mended.mend(&mend(true));
        assert!(
            mended
                .photo
                .iter()
                .all(|field| field.tag != tags::SUBJECT_AREA)
        );
    }
}
