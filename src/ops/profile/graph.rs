//! A profile as a flame graph: an SVG, with the thread's name at the root.

use std::io;

use inferno::flamegraph::color::{MultiPalette, Palette};
use inferno::flamegraph::{self, Options, TextTruncateDirection};

use super::names::Frame;
use super::stacks::Stacks;

const TITLE: &str = "firehose: CPU time by thread and function";

pub(super) fn draw(stacks: &Stacks, seconds: u64, hz: u32) -> io::Result<Vec<u8>> {
    let folded = stacks.collapsed_by(Frame::function_first);
    if folded.is_empty() {
        return Ok(idle(seconds));
    }
    let mut options = Options::default();
    options.title = TITLE.to_owned();
    options.subtitle = Some(subtitle(stacks, seconds, hz));
    // The start of a name remains in a narrow box. The complete name is the title of the box.
    options.text_truncate_direction = TextTruncateDirection::Right;
    // A name with `::`, one without, and the kernel have a color each in this palette, whichever the language.
    options.colors = Palette::Multi(MultiPalette::Perl);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut svg)?;
    Ok(svg)
}

fn subtitle(stacks: &Stacks, seconds: u64, hz: u32) -> String {
    let kernel = if stacks.has_kernel {
        "with the kernel"
    } else {
        "without the kernel: one box for the time in system calls; page faults and interrupts belong to the \
         interrupted function"
    };
    let lost = match stacks.lost {
        0 => String::new(),
        lost => format!(", {lost} samples lost for lack of space"),
    };
    format!("{seconds} s at {hz} samples per second of CPU time, {kernel}{lost}")
}

/// Returns the graph of a process whose threads all slept: an image whose text reports this.
fn idle(seconds: u64) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\" standalone=\"no\"?>\n\
         <svg version=\"1.1\" width=\"1200\" height=\"90\" viewBox=\"0 0 1200 90\" \
         xmlns=\"http://www.w3.org/2000/svg\">\n\
         <title>{TITLE}</title>\n\
         <text x=\"600\" y=\"50\" text-anchor=\"middle\" font-family=\"monospace\" font-size=\"17\">\
         No thread used the CPU in {seconds} s: the server was idle.</text>\n</svg>\n"
    )
    .into_bytes()
}
