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
    };
    let mut before = Before::default();
    let packet = mend(packet.as_bytes(), &addition, &mut before)?;
    Ok((String::from_utf8(packet).unwrap(), before))
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
    };
    let packet = fresh(&addition, &Before::default());
    let again = mend(&packet, &addition, &mut Before::default()).unwrap();
    assert_eq!(
        String::from_utf8(again)
            .unwrap()
            .matches("ModelDigest")
            .count(),
        2,
        "one element"
    );
}
