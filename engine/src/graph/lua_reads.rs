//! What a Lua script can read of its surroundings, told from its text.
//!
//! Owns a lexer that errs to one side only: it may say that something is read which is not, never the reverse. So what it
//! says is not read need not be handed to the script. Never executes or compiles anything.

use std::{collections::BTreeSet, iter::Peekable, str::Chars, sync::Arc};

/// Names that reach every global, whatever the rest of the text looks like.
const REACHES_EVERYTHING: [&str; 12] = [
    "_G",
    "_ENV",
    "load",
    "loadstring",
    "loadfile",
    "dofile",
    "getfenv",
    "setfenv",
    "require",
    "package",
    "debug",
    "module",
];

/// What a script can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LuaReads {
    globals: Names,
    steps: Names,
}

/// A set of names that may be all there are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    Some(BTreeSet<Arc<str>>),
}

impl LuaReads {
    /// Reads the text of a script.
    pub fn of(source: &str) -> Self {
        let tokens: Vec<Token> = Lexer { chars: source.chars().peekable() }.collect();
        let mut reads = Self { globals: Names::Some(BTreeSet::new()), steps: Names::Some(BTreeSet::new()) };
        for (position, token) in tokens.iter().enumerate() {
            let Token::Name(name) = token else { continue };
            if REACHES_EVERYTHING.contains(&name.as_str()) {
                return Self { globals: Names::All, steps: Names::All };
            }
            if position > 0 && matches!(tokens[position - 1], Token::Dot | Token::Colon) {
                continue;
            }
            reads.globals.add(name);
            if name == "steps" {
                match step_named(&tokens[position + 1..]) {
                    Some(id) => reads.steps.add(id),
                    None => reads.steps = Names::All,
                }
            }
        }
        reads
    }

    /// Whether it may read the global variable.
    pub fn global(&self, name: &str) -> bool {
        self.globals.may_hold(name)
    }

    /// Whether it may read the step's entry in `steps`, by its id or by the id with underscores for hyphens.
    pub fn step(&self, id: &str) -> bool {
        self.steps.may_hold(id) || (id.contains('-') && self.steps.may_hold(&id.replace('-', "_")))
    }

    /// The keys of `steps` that it names; nothing where it may read any.
    pub fn named_steps(&self) -> Option<impl Iterator<Item = &str>> {
        match &self.steps {
            Names::All => None,
            Names::Some(names) => Some(names.iter().map(|name| &**name)),
        }
    }
}

impl Names {
    fn add(&mut self, name: &str) {
        match self {
            Self::All => {}
            Self::Some(names) => {
                names.insert(name.into());
            }
        }
    }

    fn may_hold(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(name),
        }
    }
}

/// The one step that an expression after the word `steps` names: `.name` or `["name"]`, and nothing else is understood.
fn step_named(after: &[Token]) -> Option<&str> {
    match after {
        [Token::Dot, Token::Name(id), ..] => Some(id),
        [Token::Open, Token::Text(Some(id)), Token::Close, ..] => Some(id),
        _ => None,
    }
}

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    /// A string in quotes; its text where no escape is in it.
    Text(Option<String>),
    Dot,
    Colon,
    Open,
    Close,
    Other,
}

struct Lexer<'s> {
    chars: Peekable<Chars<'s>>,
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let c = self.chars.next()?;
            return Some(match c {
                c if c.is_whitespace() => continue,
                '-' if self.eat('-') => {
                    self.comment();
                    continue;
                }
                c if c.is_ascii_digit() => {
                    self.word(c);
                    Token::Other
                }
                c if is_name(c) => Token::Name(self.word(c)),
                '"' | '\'' => Token::Text(self.quoted(c)),
                '[' if self.long_bracket() => Token::Other,
                '[' => Token::Open,
                ']' => Token::Close,
                // Two dots join texts and three are the arguments: what follows them is no field.
                '.' if self.eat('.') => {
                    self.eat('.');
                    Token::Other
                }
                '.' => Token::Dot,
                // What follows a label is no method.
                ':' if self.eat(':') => Token::Other,
                ':' => Token::Colon,
                _ => Token::Other,
            });
        }
    }
}

impl Lexer<'_> {
    fn eat(&mut self, wanted: char) -> bool {
        self.chars.next_if_eq(&wanted).is_some()
    }

    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        while let Some(c) = self.chars.next_if(|c| is_name(*c)) {
            word.push(c);
        }
        word
    }

    /// Up to the closing quote. A line break ends no string here: where it would in Lua, the script does not compile.
    fn quoted(&mut self, quote: char) -> Option<String> {
        let mut text = Some(String::new());
        while let Some(c) = self.chars.next() {
            match c {
                '\\' => {
                    self.chars.next();
                    text = None;
                }
                c if c == quote => break,
                c => {
                    if let Some(text) = &mut text {
                        text.push(c);
                    }
                }
            }
        }
        text
    }

    fn comment(&mut self) {
        if self.eat('[') && self.long_bracket() {
            return;
        }
        while self.chars.next_if(|c| *c != '\n' && *c != '\r').is_some() {}
    }

    /// After a `[`: the rest of `[[…]]` or `[==[…]==]`, where that is what it is. Otherwise nothing is taken.
    fn long_bracket(&mut self) -> bool {
        let mut ahead = self.chars.clone();
        let mut level = 0;
        while ahead.next_if_eq(&'=').is_some() {
            level += 1;
        }
        if ahead.next() != Some('[') {
            return false;
        }
        let mut equals = None;
        for c in ahead.by_ref() {
            equals = match (c, equals) {
                (']', Some(count)) if count == level => break,
                (']', _) => Some(0),
                ('=', Some(count)) => Some(count + 1),
                _ => None,
            };
        }
        self.chars = ahead;
        true
    }
}

/// Letters beyond ASCII are no names in Lua; taking them for one errs to the safe side.
fn is_name(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(source: &str) -> String {
        match LuaReads::of(source).named_steps() {
            None => "all".into(),
            Some(names) => names.collect::<Vec<_>>().join(" "),
        }
    }

    #[test]
    fn only_named_steps_are_read() {
        assert_eq!(steps("return { x = steps.a.result.x + steps.b_c.result.y }"), "a b_c");
        assert_eq!(steps("return steps['a-b'].result"), "a-b");
        assert_eq!(steps("return steps[ --[[which]] \"a\" ].result"), "a");
        assert_eq!(steps("return { total = 1 }"), "");
        assert!(LuaReads::of("return steps.a_b.result").step("a-b"));
        assert!(!LuaReads::of("return steps.a_b.result").step("a-c"));
    }

    #[test]
    fn any_other_use_of_steps_reads_all() {
        for source in [
            "for id, step in pairs(steps) do end",
            "local s = steps",
            "return steps[name]",
            "return steps['a' .. n]",
            "return steps[ [[a]] ]",
            "return steps['\\97']",
            "return steps\"a\"",
            "return f(...)..steps[1]",
            "goto steps ::steps:: local s = steps",
        ] {
            assert_eq!(steps(source), "all", "{source}");
        }
    }

    #[test]
    fn whatever_reaches_the_environment_reads_everything() {
        for source in [
            "return _G['in' .. 'put']",
            "local _ENV = _ENV return {}",
            "return load('return input')()",
            "return pcall(loadstring, s)",
            "local x = a.load",
        ] {
            let reads = LuaReads::of(source);
            assert!(reads.global("input") && reads.step("anything"), "{source}");
        }
    }

    #[test]
    fn strings_and_comments_read_nothing() {
        for source in [
            "return { s = 'input' }",
            "return { s = \"say \\\"input\\\"\" }",
            "return { s = [[input ]] }",
            "return { s = [==[ ]] ]=] input ]==] }",
            "-- input\nreturn {}",
            "--[[ input\n ]] return {}",
            "--[==[ input ]] input ]==] return {}",
            "return x.input",
            "return x:input()",
            "return { s = 'a\\z\n   input' }",
        ] {
            assert!(!LuaReads::of(source).global("input"), "{source}");
        }
    }

    #[test]
    fn what_follows_is_still_read() {
        for source in [
            "return '' .. input",
            "return x..input",
            "return f(...) or input",
            "--[[ c ]] return input",
            "--[ c\nreturn input",
            "--[=[ ] ]=]return input",
            "return 'a\\'' , input",
            "return a[b[1]] + input",
            "::l:: input.x = 1",
            "return [[ ]]..input",
            "return 1e5 + input",
            "-- c\rreturn input",
            "return {[1]=input}",
            "return [=[]]=]=]=]..input",
        ] {
            assert!(LuaReads::of(source).global("input"), "{source}");
        }
    }
}
