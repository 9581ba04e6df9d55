//! XMP: properties in RDF, in XML. What is not true of the result any more is taken out and what was
//! done to the picture is added; all else is kept as it is written.

use std::fmt::Write as _;

use quick_xml::{
    NsReader, XmlVersion,
    escape::escape,
    events::{BytesEnd, BytesStart, Event},
    name::{QName, ResolveResult},
};

use super::{
    provenance::{Before, COMPOSITE, Provenance, Value},
    xmp_properties::{
        IPTC_EXT, UPRES, is_outdated, is_side, is_size, marks_pixels, marks_regions, names_a_place,
        scaled,
    },
};

const RDF: &[u8] = b"http://www.w3.org/1999/02/22-rdf-syntax-ns#";

/// What stands before and behind the XML in a file. The id is the same in all packets.
const PACKET_BEGIN: &str = "<?xpacket begin=\"\u{FEFF}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>";
const PACKET_END: &str = "<?xpacket end=\"w\"?>";

/// Deeper than any metadata: what nests further is not read.
const MAX_DEPTH: usize = 200;

/// A packet that is no sound RDF in UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What is added to a packet.
pub(super) struct Addition<'a> {
    pub provenance: Option<&'a Provenance>,
    pub scale: u32,
    pub strip_gps: bool,
    /// The picture was stored in another orientation than the result.
    pub turned: bool,
}

/// A packet of a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mended {
    pub packet: Vec<u8>,
    /// Regions were marked in the source, and are elsewhere in the result.
    pub lost_regions: bool,
}

/// Mends `packet`.
///
/// # Errors
/// [`Unreadable`]; a packet of [`fresh`] can take its place.
pub(super) fn mend(
    packet: &[u8],
    addition: &Addition<'_>,
    before: &mut Before,
) -> Result<Mended, Unreadable> {
    let text = std::str::from_utf8(packet).map_err(|_| Unreadable)?;
    let text = text
        .trim_start_matches('\u{FEFF}')
        .trim_matches(['\0', ' ', '\n', '\r', '\t']);
    let mut copy = Copy {
        addition,
        before,
        out: String::with_capacity(text.len() + 2_048),
        path: Vec::new(),
        about: None,
        complete: false,
        in_pixels: marks_pixels(text),
        lost_regions: false,
    };
    copy.run(text)?;
    if !copy.complete {
        return Err(Unreadable);
    }
    let packet = [PACKET_BEGIN, copy.out.trim(), PACKET_END].concat();
    Ok(Mended {
        packet: packet.into_bytes(),
        lost_regions: copy.lost_regions,
    })
}

/// A packet with nothing but what is added.
pub(super) fn fresh(addition: &Addition<'_>, before: &Before) -> Vec<u8> {
    let mut out = String::from(PACKET_BEGIN);
    out.push_str(r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">"#);
    describe(addition, before, "", &mut out);
    out.push_str("</rdf:RDF></x:xmpmeta>");
    out.push_str(PACKET_END);
    out.into_bytes()
}

/// Appends what was done, as a description of its own.
fn describe(addition: &Addition<'_>, before: &Before, about: &str, out: &mut String) {
    let Some(provenance) = addition.provenance else {
        return;
    };
    let mut properties = String::new();
    for (name, value) in provenance.properties(addition.scale, before) {
        let value = match value {
            Value::Text(text) => escape(text).into_owned(),
            Value::List(items) => {
                let items = items
                    .iter()
                    .map(|item| format!("<rdf:li>{}</rdf:li>", escape(item)));
                format!("<rdf:Seq>{}</rdf:Seq>", items.collect::<String>())
            }
        };
        let _ = write!(properties, "<upres:{name}>{value}</upres:{name}>");
    }
    let namespace = |name| String::from_utf8_lossy(name);
    let (rdf, iptc, upres) = (namespace(RDF), namespace(IPTC_EXT), namespace(UPRES));
    let _ = write!(
        out,
        "<rdf:Description xmlns:rdf=\"{rdf}\" rdf:about=\"{about}\" xmlns:Iptc4xmpExt=\"{iptc}\" \
         xmlns:upres=\"{upres}\"><Iptc4xmpExt:DigitalSourceType>{COMPOSITE}\
         </Iptc4xmpExt:DigitalSourceType>{properties}</rdf:Description>"
    );
}

/// What an element is to the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Element {
    /// The element that holds all descriptions.
    Rdf,
    /// A description in it.
    Description,
    /// The size that marked regions are shares of, or what wraps its parts.
    Size,
    /// One of its two sides.
    Side,
    Other,
}

/// A copy of a packet on its way.
struct Copy<'a, 'b> {
    addition: &'a Addition<'a>,
    before: &'b mut Before,
    out: String,
    /// The elements that are open.
    path: Vec<Element>,
    /// What the descriptions are about, as written; the same for all in a packet.
    about: Option<String>,
    /// The end of the descriptions was found.
    complete: bool,
    /// Regions are marked in pixels of the source.
    in_pixels: bool,
    lost_regions: bool,
}

impl Copy<'_, '_> {
    fn run(&mut self, text: &str) -> Result<(), Unreadable> {
        let mut reader = NsReader::from_str(text);
        loop {
            let event = reader.read_event().map_err(|_| Unreadable)?;
            match event {
                Event::Eof if self.path.is_empty() => return Ok(()),
                Event::Eof | Event::DocType(_) => return Err(Unreadable),
                // The packet's wrapper is written anew, and what is outside the root with it.
                Event::PI(_) | Event::Decl(_) | Event::Comment(_) => {}
                Event::Start(start) => self.start(&mut reader, &start)?,
                Event::Empty(start) => self.empty(&reader, &start)?,
                Event::End(end) => {
                    if self.path.pop() == Some(Element::Rdf) {
                        self.end_rdf();
                    }
                    self.write_end(&end)?;
                }
                Event::Text(inner) if self.path.last() == Some(&Element::Side) => {
                    let side = std::str::from_utf8(&inner).map_err(|_| Unreadable)?;
                    self.out.push_str(&scaled(side, self.addition.scale));
                }
                Event::Text(inner) => self.push(&inner)?,
                Event::CData(inner) => {
                    self.out.push_str("<![CDATA[");
                    self.push(&inner)?;
                    self.out.push_str("]]>");
                }
                Event::GeneralRef(inner) => {
                    self.out.push('&');
                    self.push(&inner)?;
                    self.out.push(';');
                }
            }
        }
    }

    fn start(
        &mut self,
        reader: &mut NsReader<&[u8]>,
        start: &BytesStart<'_>,
    ) -> Result<(), Unreadable> {
        if self.path.len() == MAX_DEPTH {
            return Err(Unreadable);
        }
        if self.is_dropped(reader, start.name(), false) {
            self.note_regions(reader, start.name());
            let is_type = is(reader, start.name(), IPTC_EXT, b"DigitalSourceType");
            let inner = reader.read_text(start.name()).map_err(|_| Unreadable)?;
            if is_type {
                let text = inner.xml10_content().map_err(|_| Unreadable)?;
                self.source_type(&text);
            }
            return Ok(());
        }
        let element = self.element(reader, start);
        self.write_start(reader, start, element, false)?;
        self.path.push(element);
        Ok(())
    }

    fn empty(
        &mut self,
        reader: &NsReader<&[u8]>,
        start: &BytesStart<'_>,
    ) -> Result<(), Unreadable> {
        if self.is_dropped(reader, start.name(), false) {
            self.note_regions(reader, start.name());
            let resource = start.attributes().flatten().find(|attribute| {
                let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
                namespace == bound(RDF) && local.as_ref() == b"resource"
            });
            if let Some(resource) = resource
                && is(reader, start.name(), IPTC_EXT, b"DigitalSourceType")
            {
                let value = resource.normalized_value(XmlVersion::Implicit1_0);
                self.source_type(&value.map_err(|_| Unreadable)?);
            }
            return Ok(());
        }
        let element = self.element(reader, start);
        if element == Element::Rdf {
            self.write_start(reader, start, element, false)?;
            self.end_rdf();
            return self.write_end(&start.to_end());
        }
        self.write_start(reader, start, element, true)
    }

    fn element(&self, reader: &NsReader<&[u8]>, start: &BytesStart<'_>) -> Element {
        if is(reader, start.name(), RDF, b"RDF") && !self.complete {
            return Element::Rdf;
        }
        if self.path.last() == Some(&Element::Rdf) {
            return Element::Description;
        }
        let in_size = self.path.last() == Some(&Element::Size);
        match reader.resolver().resolve_element(start.name()) {
            (ResolveResult::Bound(space), local) if is_size(space.as_ref(), local.as_ref()) => {
                Element::Size
            }
            (ResolveResult::Bound(space), local)
                if in_size && is_side(space.as_ref(), local.as_ref()) =>
            {
                Element::Side
            }
            _ if in_size => Element::Size,
            _ => Element::Other,
        }
    }

    /// Remembers that a property that is dropped marks regions.
    fn note_regions(&mut self, reader: &NsReader<&[u8]>, name: QName<'_>) {
        if let (ResolveResult::Bound(space), local) = reader.resolver().resolve_element(name) {
            self.lost_regions |= marks_regions(space.as_ref(), local.as_ref());
        }
    }

    fn end_rdf(&mut self) {
        let about = self.about.clone().unwrap_or_default();
        describe(self.addition, self.before, &about, &mut self.out);
        self.complete = true;
    }

    /// Writes the tag without the properties that are dropped.
    fn write_start(
        &mut self,
        reader: &NsReader<&[u8]>,
        start: &BytesStart<'_>,
        element: Element,
        empty: bool,
    ) -> Result<(), Unreadable> {
        self.out.push('<');
        self.push(start.name().as_ref())?;
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|_| Unreadable)?;
            let value = std::str::from_utf8(&attribute.value).map_err(|_| Unreadable)?;
            let (namespace, local) = reader.resolver().resolve_attribute(attribute.key);
            if element == Element::Description
                && local.as_ref() == b"about"
                && matches!(namespace, ResolveResult::Unbound) | (namespace == bound(RDF))
            {
                self.about
                    .get_or_insert_with(|| value.replace('"', "&quot;"));
            }
            let of_description = element == Element::Description;
            if self.is_dropped_in(reader, attribute.key, of_description, true) {
                if is_attribute(reader, attribute.key, IPTC_EXT, b"DigitalSourceType") {
                    self.source_type(value);
                }
                continue;
            }
            let side = match &namespace {
                ResolveResult::Bound(space) if element == Element::Size => {
                    is_side(space.as_ref(), local.as_ref())
                }
                _ => false,
            };
            let scaled = side.then(|| scaled(value, self.addition.scale));
            let value = scaled.as_deref().unwrap_or(value);
            self.out.push(' ');
            self.push(attribute.key.as_ref())?;
            let quote = if value.contains('"') { '\'' } else { '"' };
            self.out.push('=');
            self.out.push(quote);
            self.out.push_str(value);
            self.out.push(quote);
        }
        self.out.push_str(if empty { "/>" } else { ">" });
        Ok(())
    }

    fn write_end(&mut self, end: &BytesEnd<'_>) -> Result<(), Unreadable> {
        self.out.push_str("</");
        self.push(end.name().as_ref())?;
        self.out.push('>');
        Ok(())
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Unreadable> {
        self.out
            .push_str(std::str::from_utf8(bytes).map_err(|_| Unreadable)?);
        Ok(())
    }

    fn source_type(&mut self, value: &str) {
        let value = value.trim();
        if !value.is_empty() {
            self.before
                .source_type
                .get_or_insert_with(|| value.to_owned());
        }
    }

    /// Whether an element is a property that is dropped.
    fn is_dropped(&self, reader: &NsReader<&[u8]>, name: QName<'_>, attribute: bool) -> bool {
        let of_description = self.path.last() == Some(&Element::Description);
        self.is_dropped_in(reader, name, of_description, attribute)
    }

    fn is_dropped_in(
        &self,
        reader: &NsReader<&[u8]>,
        name: QName<'_>,
        of_description: bool,
        attribute: bool,
    ) -> bool {
        let (namespace, local) = if attribute {
            reader.resolver().resolve_attribute(name)
        } else {
            reader.resolver().resolve_element(name)
        };
        let ResolveResult::Bound(namespace) = namespace else {
            return false;
        };
        let local = local.as_ref();
        // A place may be part of a larger property.
        let place = names_a_place(local);
        if place {
            return self.addition.strip_gps;
        }
        let labelled = self.addition.provenance.is_some();
        let moved = (self.addition.turned || self.in_pixels && namespace.as_ref() == IPTC_EXT)
            && marks_regions(namespace.as_ref(), local);
        of_description && (moved || is_outdated(namespace.as_ref(), local, labelled))
    }
}

fn bound(namespace: &[u8]) -> ResolveResult<'_> {
    ResolveResult::Bound(quick_xml::name::Namespace(namespace))
}

fn is(reader: &NsReader<&[u8]>, name: QName<'_>, namespace: &[u8], local: &[u8]) -> bool {
    let (found, found_local) = reader.resolver().resolve_element(name);
    found == bound(namespace) && found_local.as_ref() == local
}

fn is_attribute(reader: &NsReader<&[u8]>, name: QName<'_>, namespace: &[u8], local: &[u8]) -> bool {
    let (found, found_local) = reader.resolver().resolve_attribute(name);
    found == bound(namespace) && found_local.as_ref() == local
}

#[cfg(test)]
#[path = "xmp_tests.rs"]
mod tests;
