//! Calls of gRPC on HTTP/2 by a client that does not read before it wants to.

use super::LONG;
use std::io::{Read, Write};
use std::net::TcpStream;

const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The most that the other side may send before it is read.
const WINDOW_MAX: u32 = (1 << 31) - 1;

pub struct Http2 {
    stream: TcpStream,
    next: u32,
}

impl Http2 {
    /// Connects, and leaves the server free to send as much as it likes.
    pub fn open(endpoint: &str) -> Http2 {
        let stream = TcpStream::connect(endpoint).expect("it listens");
        stream.set_read_timeout(Some(LONG)).expect("a timeout");
        let mut client = Http2 { stream, next: 1 };
        client.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("it reads");
        // Setting 4 is the window of each call.
        client.frame(SETTINGS, 0, 0, &[&[0, 4][..], &WINDOW_MAX.to_be_bytes()].concat());
        client.frame(WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - 0xffff).to_be_bytes());
        client
    }

    fn frame(&mut self, kind: u8, flags: u8, call: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let frame = [&length[1..], &[kind, flags], &call.to_be_bytes(), payload].concat();
        self.stream.write_all(&frame).expect("it reads");
    }

    /// Begins a call with one small message.
    pub fn call(&mut self, path: &str, message: &[u8]) {
        let headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
        let mut block = Vec::new();
        for (name, value) in headers.into_iter().chain([("content-type", "application/grpc"), ("te", "trailers")]) {
            block
                .extend([&[0, name.len() as u8][..], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
        }
        let call = self.next;
        self.next += 2;
        self.frame(HEADERS, END_HEADERS, call, &block);
        let data = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
        self.frame(DATA, END_STREAM, call, &data);
    }

    /// Reads until so many calls have ended; returns the bytes of their answers.
    pub fn read(&mut self, mut calls: usize) -> usize {
        let mut bytes = 0;
        while calls > 0 {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).expect("it goes on");
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).expect("it goes on");
            match head[3] {
                DATA => bytes += payload.len(),
                HEADERS if head[4] & END_STREAM != 0 => calls -= 1,
                _ => {}
            }
        }
        bytes
    }
}
