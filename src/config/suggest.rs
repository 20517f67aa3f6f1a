//! The known name near to a misspelt one, by edit distance (Damerau–Levenshtein, adjacent swaps only).

/// A slip changes at most one letter in this many. A name that is further away is another word, and suggesting it would
/// mislead.
const LETTERS_PER_SLIP: usize = 3;

/// Returns the candidate with the fewest insertions, deletions, replacements and swaps of neighbours, or the first of
/// several equals. Returns `None` if none is near. Only the first 64 bytes of a name count.
pub(crate) fn near<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (distance(name, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| distance * LETTERS_PER_SLIP <= name.len().max(candidate.len()))
        .map(|(_, candidate)| candidate)
}

fn distance(left: &str, right: &str) -> usize {
    let left = &left.as_bytes()[..left.len().min(64)];
    let right = &right.as_bytes()[..right.len().min(64)];
    // Three rows of the standard table; swaps need the row before the last.
    let mut before_last: Vec<usize> = vec![0; right.len() + 1];
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let replace = last[j - 1] + usize::from(left[i - 1] != right[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = last;
        last = row;
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_finds_its_name() {
        let names = ["listen", "ops_listen", "data", "ack", "batch_rows_max"];
        let near = |name| near(name, names.iter().copied());
        assert_eq!(near("lisetn"), Some("listen"));
        assert_eq!(near("dat"), Some("data"));
        assert_eq!(near("batch_row_max"), Some("batch_rows_max"));
        assert_eq!(near("opslisten"), Some("ops_listen"));
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn another_word_finds_no_name() {
        let names = ["listen", "ops_listen", "data", "ack", "batch_rows_max"];
        for word in ["", "x", "port", "database_url", "workers"] {
            assert_eq!(near(word, names.iter().copied()), None, "{word}");
        }
    }
}
