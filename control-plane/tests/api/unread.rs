//! Connections whose last request was refused before its body was read: they go on, or say that they close.

use crate::server::Server;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
};

/// A request without a credential, so that it is refused by its head; its body comes or does not.
fn head(server: &Server, length: usize) -> Vec<u8> {
    let head = "POST /v1/workflows HTTP/1.1\r\ncontent-type: application/json\r\n";
    format!("{head}host: {}\r\ncontent-length: {length}\r\n\r\n", server.address()).into_bytes()
}

/// Reads one answer: its status, and whether it says that the connection closes.
fn answer(reader: &mut BufReader<TcpStream>) -> (u16, bool) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the connection ended in the middle of an answer: {head}");
    }
    let head = head.to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.contains("connection: close"))
}

#[test]
fn a_connection_on_which_a_body_is_missing_says_that_it_closes() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&head(&server, 20)).unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(answer(&mut reader), (401, true));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "and closes");
}

#[test]
fn a_body_that_is_too_long_to_be_taken_off_is_not_waited_for() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(&head(&server, 900_000)).unwrap();
    // As much as there is room for on the way: the other end need not take it.
    stream.write_all(&[b' '; 70_000]).unwrap();
    let mut reader = BufReader::new(stream);
    assert_eq!(answer(&mut reader), (401, true));
}

#[test]
fn a_connection_whose_body_comes_behind_its_head_goes_on_or_says_that_it_does_not() {
    let server = Server::unlimited();
    let body = json!({ "name": "late", "graph": {} }).to_string();
    let mut went_on = 0;
    for _ in 0..50 {
        let stream = TcpStream::connect(server.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream);
        for _ in 0..4 {
            let stream = reader.get_mut();
            stream.write_all(&head(&server, body.len())).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            let (status, closes) = answer(&mut reader);
            assert_eq!(status, 401);
            if closes {
                break;
            }
            went_on += 1;
        }
    }
    // Whoever is slow may meet a closed connection; hardly anybody is.
    assert!(went_on > 100, "{went_on} of 200");
}
