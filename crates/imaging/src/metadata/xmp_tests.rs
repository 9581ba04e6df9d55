use super::*;

fn provenance() -> Provenance {
    Provenance {
        software: "upres <test>".to_owned(),
        model: "a & b".to_owned(),
        model_digest: Some("sha256:00ff".to_owned()),
        timesteps: vec![250, 50],
        seed: 7,
        color_fix: "wavelet".to_owned(),
        tile: 128,
        overlap: 32,
        guidance: 1.0,
    }
}

fn mended(packet: &str, strip_gps: bool) -> Result<(String, Before), Unreadable> {
    let provenance = provenance();
    let addition = Addition {
        provenance: Some(&provenance),
        scale: 4,
        strip_gps,
        turned: false,
    };
    let mut before = Before::default();
    let mended = mend(packet.as_bytes(), &addition, &mut before)?;
    Ok((String::from_utf8(mended.packet).unwrap(), before))
}

const SOURCE: &str = r#"<?xpacket begin='' id='W5M0MpCehiHzreSzNTczkc9d'?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<r:Description r:about="uuid:1" xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"
 xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:e="http://ns.adobe.com/exif/1.0/"
 dc:source='say "so" &amp; go' e:GPSLatitude="51,28.6N">
<dc:title><r:Alt><r:li xml:lang="x-default">Krämer &lt;1902&gt; &#169;</r:li></r:Alt></dc:title>
<i:DigitalSourceType xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">urn:print</i:DigitalSourceType>
<e:PixelXDimension>640</e:PixelXDimension>
<i:LocationShown xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"><r:Bag><r:li e:GPSLongitude="1W">
<t:Orientation>kept: of a part</t:Orientation></r:li></r:Bag></i:LocationShown>
</r:Description></r:RDF></x:xmpmeta>

                                   <?xpacket end='w'?>"#;

#[test]
fn what_is_outdated_goes_and_all_else_stays() {
    let (packet, before) = mended(SOURCE, false).unwrap();
    for gone in ["t:Orientation=\"6\"", "PixelXDimension", "urn:print"] {
        let kept_as_record = gone == "urn:print" && before.source_type.as_deref() == Some(gone);
        assert!(
            !packet.contains(gone) || kept_as_record,
            "{gone} in {packet}"
        );
    }
    for kept in [
        "Krämer &lt;1902&gt; &#169;",
        "dc:source='say \"so\" &amp; go'",
        "e:GPSLatitude=\"51,28.6N\"",
        "kept: of a part",
        "rdf:about=\"uuid:1\"",
        "<upres:Software>upres &lt;test&gt;</upres:Software>",
        "<upres:Timesteps><rdf:Seq><rdf:li>250</rdf:li><rdf:li>50</rdf:li></rdf:Seq></upres:Timesteps>",
        "<upres:SourceDigitalSourceType>urn:print<",
        "/digitalsourcetype/compositeWithTrainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>",
    ] {
        assert!(packet.contains(kept), "{kept} not in {packet}");
    }
    assert!(packet.len() < SOURCE.len() + 1_500, "no padding");
}

#[test]
fn a_second_pass_replaces_what_the_first_added() {
    let (once, _) = mended(SOURCE, false).unwrap();
    let (twice, before) = mended(&once, false).unwrap();
    assert_eq!(twice.matches("<upres:Seed>").count(), 1);
    assert_eq!(twice.matches("</Iptc4xmpExt:DigitalSourceType>").count(), 1);
    assert_eq!(before.source_type.as_deref(), Some(COMPOSITE));
}

#[test]
fn places_go_wherever_they_are_when_that_is_asked_for() {
    let (packet, _) = mended(SOURCE, true).unwrap();
    assert!(!packet.contains("GPS"), "{packet}");
}

#[test]
fn what_is_no_packet_is_refused() {
    let deep = "<a>".repeat(500) + &"</a>".repeat(500);
    let entity = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><x/>";
    for packet in [
        "",
        "plain text",
        "<a/>",
        "<a><b></a></b>",
        &deep,
        entity,
        "<x:xmpmeta><rdf:RDF>",
    ] {
        assert_eq!(mended(packet, false).err(), Some(Unreadable), "{packet}");
    }
    let provenance = provenance();
    let addition = Addition {
        provenance: Some(&provenance),
        scale: 4,
        strip_gps: false,
        turned: false,
    };
    assert_eq!(
        mend(&[0xFF, 0xFE, b'<', 0], &addition, &mut Before::default()),
        Err(Unreadable)
    );
}

#[test]
fn a_fresh_packet_can_be_mended_again() {
    let provenance = provenance();
    let addition = Addition {
        provenance: Some(&provenance),
        scale: 4,
        strip_gps: false,
        turned: false,
    };
    let packet = fresh(&addition, &Before::default());
    let again = mend(&packet, &addition, &mut Before::default()).unwrap();
    assert_eq!(
        String::from_utf8(again.packet)
            .unwrap()
            .matches("ModelDigest")
            .count(),
        2,
        "one element"
    );
}

/// Faces as programs mark them, and the size of their picture as attributes, as elements or in a description.
fn with_regions(size: &str) -> String {
    format!(
        r#"<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:r="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:d="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:a="http://ns.adobe.com/xmp/sType/Area#"
 xmlns:m="http://ns.microsoft.com/photo/1.2/" xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<r:Regions rdf:parseType="Resource">{size}<r:RegionList><rdf:Bag><rdf:li><rdf:Description r:Name="Anna">
<r:Area a:x="0.1" a:y="0.2" a:w="0.1" a:h="0.1" d:w="7"/></rdf:Description></rdf:li></rdf:Bag></r:RegionList></r:Regions>
<m:RegionInfo rdf:parseType="Resource"><m:Name>Anna</m:Name></m:RegionInfo><i:ImageRegion>Anna</i:ImageRegion>
<i:Kept/></rdf:Description></rdf:RDF></x:xmpmeta>"#
    )
}

fn mended_regions(size: &str, turned: bool) -> (String, bool) {
    let addition = Addition {
        provenance: None,
        scale: 4,
        strip_gps: false,
        turned,
    };
    let source = with_regions(size);
    let mended = mend(source.as_bytes(), &addition, &mut Before::default()).unwrap();
    let packet = String::from_utf8(mended.packet).unwrap();
    (packet, mended.lost_regions)
}

#[test]
fn marked_regions_stay_in_a_larger_picture_and_their_size_is_its_own() {
    for (size, expected) in [
        (
            r#"<r:AppliedToDimensions d:w="40" d:h="24" d:unit="pixel"/>"#,
            r#"<r:AppliedToDimensions d:w="160" d:h="96" d:unit="pixel"/>"#,
        ),
        (
            r#"<r:AppliedToDimensions rdf:parseType="Resource"><d:w>40</d:w><d:h>24.5</d:h><d:unit>pixel</d:unit></r:AppliedToDimensions>"#,
            r#"<r:AppliedToDimensions rdf:parseType="Resource"><d:w>160</d:w><d:h>98</d:h><d:unit>pixel</d:unit></r:AppliedToDimensions>"#,
        ),
        (
            r#"<r:AppliedToDimensions><rdf:Description d:w="40" d:h="all"/></r:AppliedToDimensions>"#,
            r#"<r:AppliedToDimensions><rdf:Description d:w="160" d:h="all"/></r:AppliedToDimensions>"#,
        ),
    ] {
        let (packet, lost) = mended_regions(size, false);
        assert!(packet.contains(expected), "{packet}");
        assert_eq!(packet.matches("Anna").count(), 3);
        assert!(packet.contains(r#"a:h="0.1" d:w="7"/>"#), "{packet}");
        assert!(!lost);
    }
}

#[test]
fn regions_in_pixels_of_the_source_go_and_those_in_shares_stay() {
    let region = |unit: &str| format!("<i:ImageRegion i:rbUnit=\"{unit}\"/>");
    let element = "<i:ImageRegion><i:rbUnit>pixel</i:rbUnit></i:ImageRegion>".to_owned();
    for (region, lost_expected) in [
        (region("relative"), false),
        (region("pixel"), true),
        (element, true),
    ] {
        let source = with_regions("").replace("<i:Kept/>", &region);
        let addition = Addition {
            provenance: None,
            scale: 4,
            strip_gps: false,
            turned: false,
        };
        let mended = mend(source.as_bytes(), &addition, &mut Before::default()).unwrap();
        let packet = String::from_utf8(mended.packet).unwrap();
        assert_eq!(mended.lost_regions, lost_expected, "{region}");
        assert_eq!(packet.contains("ImageRegion"), !lost_expected, "{packet}");
        assert!(packet.contains("r:Regions") && packet.contains("RegionInfo"));
    }
}

#[test]
fn marked_regions_go_with_a_warning_where_the_picture_was_turned() {
    let (packet, lost) = mended_regions("", true);
    assert!(lost);
    assert!(
        !packet.contains("Anna") && packet.contains("<i:Kept/>"),
        "{packet}"
    );
}
