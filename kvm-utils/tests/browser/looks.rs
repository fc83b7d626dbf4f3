//! The page can be seen: by day and by night, on a telephone and on a wide screen, with any eyes.

use super::{
    chromium::Chromium,
    harness::{Outcome, Test},
    pages::{self, Pages},
};

pub const TESTS: &[Test] = &[
    ("looks::the_pictures_have_the_colours_of_their_legends", colours),
    ("looks::nothing_is_wider_than_the_window", widths),
    ("looks::texts_stand_out_from_their_ground", contrast),
    ("looks::kinds_and_shades_are_told_apart_by_any_eyes", palette),
    ("looks::doubts_are_seen_first", doubts),
    ("looks::every_control_has_a_name_and_can_be_reached", names),
    ("looks::it_can_be_printed", printed),
];

/// The colour that a CSS value is, as three numbers.
fn colour(browser: &mut Chromium, expression: &str) -> [u8; 3] {
    let text = browser.text(expression);
    let numbers: Vec<u8> = text
        .trim_start_matches(|c: char| !c.is_ascii_digit())
        .split(|c: char| !c.is_ascii_digit())
        .filter(|part| !part.is_empty())
        .take(3)
        .map(|part| part.parse().unwrap())
        .collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{expression}: {text} is no colour"))
}

fn colours() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("one", pages::one()));
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        let picture = browser.picture(&format!("looks-{scheme}"));
        let colours = picture.colours();
        assert!(colours.len() > 50, "{} colours", colours.len());
        // Each kind takes about as much of the picture as of the exits.
        for class in ["c0", "c1", "c3", "h1", "h5", "b0", "b4"] {
            let wanted = colour(
                &mut browser,
                &format!("getComputedStyle(document.querySelector('path.{class}')).fill"),
            );
            let pixels = colours.get(&wanted).copied().unwrap_or(0);
            assert!(pixels > 1000, "{scheme}: {pixels} pixels of {class}, {wanted:?}");
        }
        // At its foot the picture has the colour of the lowest area.
        let of = |side: &str| {
            format!("document.querySelector('#exits .stack .area').getBoundingClientRect().{side}")
        };
        let x = browser.number(&of("left")) + browser.number(&of("width")) * 0.05;
        let y = browser.number(&of("bottom")) + browser.number("scrollY") - 8.0;
        let wanted = colour(&mut browser, "getComputedStyle(document.querySelector('#exits path.c0')).fill");
        assert_eq!(picture.at(x as usize, y as usize), wanted, "{scheme}");
    }
    Ok(())
}

fn widths() -> Outcome {
    let mut browser = Chromium::start()?;
    let pages = Pages::new();
    let sets =
        [("one", pages::one().to_vec()), ("many", pages::many().to_vec()), ("hostile", pages::hostile())];
    for (name, histories) in sets {
        browser.open(&pages.write(name, &histories));
        for width in [320, 375, 768, 1400, 2560] {
            browser.size(width, 900);
            let wide = browser.number("document.documentElement.scrollWidth");
            let who = "[...document.querySelectorAll('body *')].filter((e) => !e.closest('.wide') && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => `${e.tagName}.${e.className}`).join()";
            let who = browser.text(who);
            assert!(wide <= f64::from(width), "{name}: {wide} at {width}: {who}");
            // No picture is squeezed to nothing, no mark of an axis lies upon another.
            let least = browser.number("Math.min(...[...document.querySelectorAll('.plot .area')].map((a) => a.getBoundingClientRect().width))");
            assert!(least > 200.0, "{name}: a picture of {least} at {width}");
            let marks = "Math.min(...[...document.querySelectorAll('.x')].map((axis) => {
                const boxes = [...axis.children].filter((c) => c.checkVisibility()).map((c) => c.getBoundingClientRect());
                return Math.min(...boxes.slice(1).map((box, i) => box.left - boxes[i].right)); }))";
            let gap = browser.number(marks);
            assert!(gap > 2.0, "{name}: marks {gap} apart at {width}");
        }
    }
    Ok(())
}

/// Relative luminance, WCAG 2.1.
fn luminance(colour: [u8; 3]) -> f64 {
    let [r, g, b] = colour.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn linear(part: u8) -> f64 {
    let part = f64::from(part) / 255.0;
    if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
}

fn ratio(a: [u8; 3], b: [u8; 3]) -> f64 {
    let (a, b) = (luminance(a), luminance(b));
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

fn contrast() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("doubtful", &pages::doubtful()));
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        let texts = [
            ("h1", "body"),
            (".facts", "body"),
            (".tiles dt", ".tiles div"),
            (".verdict h2", ".verdict"),
            ("#exits .proof.doubtful", "#exits"),
            ("#wrmsr .proof.unchecked", "#exits"),
            (".advice", "#exits"),
            (".x", "#exits"),
            ("#exits .waiting td", "#exits"),
            (".toolbar a", ".toolbar"),
        ];
        for (text, ground) in texts {
            let style =
                |of: &str, what: &str| format!("getComputedStyle(document.querySelector('{of}')).{what}");
            let ink = colour(&mut browser, &style(text, "color"));
            let ground = colour(&mut browser, &style(ground, "backgroundColor"));
            let ratio = ratio(ink, ground);
            // WCAG 2.1, 1.4.3.
            assert!(ratio >= 4.5, "{scheme}: {text} has a contrast of {ratio:.1}");
        }
    }
    Ok(())
}

/// How a colour looks to eyes without one kind of cones (Viénot, Brettel and Mollon 1999, for protan and deutan eyes), in
/// CIE L*a*b*.
fn seen(colour: [u8; 3], eyes: usize) -> [f64; 3] {
    let [r, g, b] = colour.map(linear);
    let to = |m: [[f64; 3]; 3], [x, y, z]: [f64; 3]| m.map(|row| row[0] * x + row[1] * y + row[2] * z);
    let lms = to(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]],
        [r, g, b],
    );
    let [l, m, s] = lms;
    let lms = match eyes {
        1 => [2.02344 * m - 2.52581 * s, m, s],
        2 => [l, 0.494207 * l + 1.24827 * s, s],
        _ => lms,
    };
    let back = [
        [0.0809444479, -0.130504409, 0.116721066],
        [-0.0102485335, 0.0540193266, -0.113614708],
        [-0.000365296938, -0.00412161469, 0.693511405],
    ];
    let [r, g, b] = to(back, lms).map(|part| part.clamp(0.0, 1.0));
    let xyz = to([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], [r, g, b]);
    let f = |t: f64| if t > 0.008856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let (x, y, z) = (f(xyz[0] / 0.9505), f(xyz[1]), f(xyz[2] / 1.089));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

fn difference(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

fn palette() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("one", pages::one()));
    for scheme in ["light", "dark"] {
        browser.scheme(scheme);
        let mut of = |class: String| {
            browser.evaluate(&format!("{{ const b = document.createElement('b'); b.className = '{class}'; b.id = 'probe'; document.body.append(b); }}"));
            let colour = colour(&mut browser, "getComputedStyle(document.getElementById('probe')).color");
            browser.evaluate("document.getElementById('probe').remove()");
            colour
        };
        for (letter, n) in [("c", 8), ("b", 7), ("h", 8)] {
            let colours: Vec<[u8; 3]> = (0..n).map(|i| of(format!("{letter}{i}"))).collect();
            for eyes in 0..3 {
                let seen: Vec<[f64; 3]> = colours.iter().map(|colour| seen(*colour, eyes)).collect();
                if letter == "h" {
                    // A scale goes one way, by lightness.
                    let steps: Vec<f64> = seen.windows(2).map(|pair| pair[1][0] - pair[0][0]).collect();
                    let down = scheme == "light";
                    assert!(
                        steps.iter().all(|step| if down { *step < -4.0 } else { *step > 4.0 }),
                        "{scheme}: {steps:?}"
                    );
                    continue;
                }
                for i in 0..n {
                    for j in 0..i {
                        let apart = difference(seen[i], seen[j]);
                        assert!(
                            apart > 12.0,
                            "{scheme}, eyes {eyes}: {letter}{i} and {letter}{j} are {apart:.0} apart"
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn doubts() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("doubtful", &pages::doubtful()));
    browser.picture("doubtful");
    let verdict = browser.text("document.querySelector('.verdict').innerText");
    for sentence in [
        "In doubt",
        "exits: 531 exits fewer than KVM's own statistic",
        "exits: the kernel skipped 531 runs",
        "exits: 1 interval of 180 in doubt",
        "time: 3 events on no vCPU's thread",
        "wrmsr: KVM's own statistic is unknown: debugfs is not mounted",
    ] {
        assert!(verdict.contains(sentence), "{sentence:?} is not in {verdict}");
    }
    let below = browser.number("document.querySelector('.verdict').getBoundingClientRect().bottom");
    assert!(below < 700.0, "seen without scrolling: {below}");
    // Where the doubtful interval is.
    let mark = browser.text("document.querySelector('#exits path.doubts').getAttribute('d')");
    assert_eq!(mark, "M5000 0h56");
    Ok(())
}

fn names() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("several", pages::several()));
    browser.ask("Accessibility.enable", &serde_json::json!({}));
    let tree = browser.ask("Accessibility.getFullAXTree", &serde_json::json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let mut controls = 0;
    for node in nodes.iter().filter(|node| node["ignored"] != true) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let focusable = node["properties"]
            .as_array()
            .is_some_and(|p| p.iter().any(|p| p["name"] == "focusable" && p["value"]["value"] == true));
        if focusable && role != "RootWebArea" {
            controls += 1;
            let name = node["name"]["value"].as_str().unwrap_or_default();
            assert!(!name.trim().is_empty(), "a {role} without a name: {node}");
        }
    }
    assert!(controls > 20, "{controls} controls");
    // By the Tab key alone, and what has the focus is seen.
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..80 {
        browser.key("Tab");
        let now = browser.text("`${document.activeElement.tagName}.${document.activeElement.className}`");
        let outlined = "document.activeElement === document.body || getComputedStyle(document.activeElement).outlineStyle !== 'none'";
        assert_eq!(browser.evaluate(outlined), true, "{now} shows no focus");
        reached.insert(now);
    }
    for wanted in ["SELECT.", "A.", "DIV.plot", "DIV.wide", "SUMMARY.", "BUTTON."] {
        assert!(reached.contains(wanted), "{wanted} is not among {reached:?}");
    }
    Ok(())
}

fn printed() -> Outcome {
    let mut browser = Chromium::start()?;
    let file = Pages::new();
    browser.open(&file.write("several", pages::several()));
    let pdf = browser.ask("Page.printToPDF", &serde_json::json!({"printBackground": false}));
    // Base64; text and vectors of a few pages.
    let size = pdf["data"].as_str().unwrap().len();
    assert!(size > 50_000, "{size}");
    browser.ask("Emulation.setEmulatedMedia", &serde_json::json!({"media": "print"}));
    assert_eq!(browser.evaluate("document.querySelector('.toolbar').checkVisibility()"), false);
    Ok(())
}
