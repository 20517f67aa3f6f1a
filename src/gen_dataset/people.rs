//! Customers: a name and an e-mail address for every number, derived from the number alone.
//!
//! No customer is stored in memory: the same number always gives the same person. Names contain what breaks careless
//! parsers: letters beyond ASCII, apostrophes, commas, quotes. Addresses use the domains reserved by RFC 2606, and
//! are unique within a tenant because they contain the number.

use std::fmt::Write as _;

use super::random::{Random, mix};

/// Given names, each with its spelling in an address.
const GIVEN: &[(&str, &str)] = &[
    ("James", "james"),
    ("Mary", "mary"),
    ("Robert", "robert"),
    ("Patricia", "patricia"),
    ("John", "john"),
    ("Jennifer", "jennifer"),
    ("Michael", "michael"),
    ("Linda", "linda"),
    ("David", "david"),
    ("Elizabeth", "elizabeth"),
    ("William", "william"),
    ("Susan", "susan"),
    ("Richard", "richard"),
    ("Jessica", "jessica"),
    ("Joseph", "joseph"),
    ("Sarah", "sarah"),
    ("Thomas", "thomas"),
    ("Karen", "karen"),
    ("Daniel", "daniel"),
    ("Nancy", "nancy"),
    ("Matthew", "matthew"),
    ("Lisa", "lisa"),
    ("Anthony", "anthony"),
    ("Emily", "emily"),
    ("Olivia", "olivia"),
    ("Noah", "noah"),
    ("Emma", "emma"),
    ("Liam", "liam"),
    ("Ava", "ava"),
    ("Lucas", "lucas"),
    ("Mia", "mia"),
    ("Ethan", "ethan"),
    ("José", "jose"),
    ("María", "maria"),
    ("Sofía", "sofia"),
    ("Andrés", "andres"),
    ("Zoë", "zoe"),
    ("Chloé", "chloe"),
    ("François", "francois"),
    ("Jürgen", "juergen"),
    ("Käthe", "kaethe"),
    ("Björn", "bjorn"),
    ("Søren", "soren"),
    ("Åsa", "asa"),
    ("Łukasz", "lukasz"),
    ("Małgorzata", "malgorzata"),
    ("Ștefan", "stefan"),
    ("Jiří", "jiri"),
    ("Ayşe", "ayse"),
    ("İbrahim", "ibrahim"),
    ("Nguyệt", "nguyet"),
    ("João", "joao"),
    ("Анна", "anna"),
    ("Дмитрий", "dmitry"),
    ("Ελένη", "eleni"),
    ("美咲", "misaki"),
    ("健太", "kenta"),
    ("伟", "wei"),
    ("지우", "jiwoo"),
    ("فاطمة", "fatima"),
    ("Priya", "priya"),
    ("Arjun", "arjun"),
    ("Fatou", "fatou"),
    ("Chidi", "chidi"),
];

/// Family names, each with its spelling in an address.
const FAMILY: &[(&str, &str)] = &[
    ("Smith", "smith"),
    ("Johnson", "johnson"),
    ("Williams", "williams"),
    ("Brown", "brown"),
    ("Jones", "jones"),
    ("Garcia", "garcia"),
    ("Miller", "miller"),
    ("Davis", "davis"),
    ("Wilson", "wilson"),
    ("Anderson", "anderson"),
    ("Taylor", "taylor"),
    ("Moore", "moore"),
    ("Jackson", "jackson"),
    ("Martin", "martin"),
    ("Lee", "lee"),
    ("Thompson", "thompson"),
    ("White", "white"),
    ("Harris", "harris"),
    ("Clark", "clark"),
    ("Lewis", "lewis"),
    ("Walker", "walker"),
    ("Hall", "hall"),
    ("Young", "young"),
    ("King", "king"),
    ("Wright", "wright"),
    ("Hill", "hill"),
    ("Green", "green"),
    ("Adams", "adams"),
    ("Baker", "baker"),
    ("Nelson", "nelson"),
    ("Carter", "carter"),
    ("Mitchell", "mitchell"),
    ("O'Brien", "obrien"),
    ("O'Connor", "oconnor"),
    ("D'Angelo", "dangelo"),
    ("García Márquez", "garciamarquez"),
    ("Muñoz", "munoz"),
    ("Núñez", "nunez"),
    ("Müller", "mueller"),
    ("Schröder", "schroeder"),
    ("Weiß", "weiss"),
    ("Lefèvre", "lefevre"),
    ("Ångström", "angstrom"),
    ("Sørensen", "sorensen"),
    ("Kowalczyk", "kowalczyk"),
    ("Wiśniewski", "wisniewski"),
    ("Dvořák", "dvorak"),
    ("Yılmaz", "yilmaz"),
    ("Nguyễn", "nguyen"),
    ("Gonçalves", "goncalves"),
    ("Иванова", "ivanova"),
    ("Соколов", "sokolov"),
    ("Παπαδόπουλος", "papadopoulos"),
    ("佐藤", "sato"),
    ("鈴木", "suzuki"),
    ("王", "wang"),
    ("김", "kim"),
    ("حسن", "hassan"),
    ("Sharma", "sharma"),
    ("Patel", "patel"),
    ("Okafor", "okafor"),
    ("Diallo", "diallo"),
    ("van der Berg", "vanderberg"),
    ("de la Cruz", "delacruz"),
];

const DOMAINS: &[&str] = &[
    "example.com",
    "example.com",
    "example.com",
    "example.net",
    "example.org",
    "mail.example.com",
    "shop.example.net",
    "post.example.org",
];

/// Two-letter country codes (ISO 3166). Frequent ones are repeated.
const COUNTRIES: &[&str] = &[
    "US", "US", "US", "US", "GB", "GB", "DE", "DE", "FR", "ES", "IT", "NL", "PL", "SE", "CA", "AU", "JP",
    "KR", "IN", "BR", "MX", "TR", "VN", "ZA",
];

/// One person's name and address, in reused buffers.
#[derive(Debug, Default)]
pub(super) struct Person {
    pub(super) name: String,
    pub(super) email: String,
    pub(super) country: &'static str,
}

impl Person {
    /// Sets the name and address to those of the customer with this number, from 0, under a tenant's key.
    pub(super) fn become_number(&mut self, key: u64, number: u32) {
        let mut random = Random::new(mix(key ^ u64::from(number)));
        let (given, given_ascii) = pick(GIVEN, &mut random);
        let (family, family_ascii) = pick(FAMILY, &mut random);
        self.name.clear();
        // Writing to a string cannot fail.
        _ = match random.below(100) {
            0..=2 => write!(self.name, "{family}, {given}"),
            3..=4 => write!(self.name, "{given} {family}, Jr."),
            5..=6 => write!(self.name, "{given} \"{}\" {family}", pick(NICKNAMES, &mut random)),
            7 => write!(self.name, "{given} {family}-{}", pick(FAMILY, &mut random).0),
            8..=12 => {
                let initial = char::from(b'A' + random.below(26) as u8);
                write!(self.name, "{given} {initial}. {family}")
            }
            _ => {
                self.name.push_str(given);
                self.name.push(' ');
                self.name.push_str(family);
                Ok(())
            }
        };
        self.email.clear();
        self.email.push_str(given_ascii);
        self.email.push(if random.per_mille(300) { '_' } else { '.' });
        self.email.push_str(family_ascii);
        self.email.push_str(itoa::Buffer::new().format(u64::from(number) + 1));
        if random.per_mille(30) {
            self.email.push_str("+shop");
        }
        self.email.push('@');
        self.email.push_str(pick(DOMAINS, &mut random));
        self.country = pick(COUNTRIES, &mut random);
    }
}

const NICKNAMES: &[&str] = &["Bob", "Liz", "Mac", "Red", "Tex", "Kit", "Ace", "Sunny"];

fn pick<T: Copy>(from: &[T], random: &mut Random) -> T {
    from[random.below(from.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn numbers_keep_their_person_and_addresses_are_unique_and_ascii() {
        let (mut person, mut again) = (Person::default(), Person::default());
        let mut emails = HashSet::new();
        let (mut commas, mut quotes, mut beyond_ascii) = (0, 0, 0);
        for number in 0..5000 {
            person.become_number(9, number);
            again.become_number(9, number);
            assert_eq!((&person.name, &person.email), (&again.name, &again.email));
            assert!(person.email.is_ascii() && person.email.matches('@').count() == 1, "{}", person.email);
            assert!(emails.insert(person.email.clone()), "{}", person.email);
            assert!(!person.name.contains(char::is_control) && person.name.len() <= 100);
            commas += u32::from(person.name.contains(','));
            quotes += u32::from(person.name.contains('"'));
            beyond_ascii += u32::from(!person.name.is_ascii());
        }
        assert!(commas > 100 && quotes > 50 && beyond_ascii > 1000, "{commas} {quotes} {beyond_ascii}");
    }

    #[test]
    fn another_key_makes_other_people() {
        let (mut person, mut other) = (Person::default(), Person::default());
        let differ = (0..100).filter(|number| {
            person.become_number(1, *number);
            other.become_number(2, *number);
            person.name != other.name
        });
        assert!(differ.count() > 90);
    }
}
