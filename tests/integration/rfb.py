"""A small VNC client (RFB 3.8, RFC 6143): raw pictures, resizing, keys and the pointer."""

import socket
import struct

RAW, DESKTOP_SIZE = 0, -223


class Client:
    """`picture` is a bytearray of width * height pixels of four bytes: blue, green, red, nothing."""

    def __init__(self, port, timeout):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        assert self.take(12) == b"RFB 003.008\n"
        self.socket.sendall(b"RFB 003.008\n")
        self.security = list(self.take(self.take(1)[0]))
        if 1 not in self.security:  # asks for a password
            return
        self.socket.sendall(b"\1")
        assert self.take(4) == b"\0\0\0\0"
        self.socket.sendall(b"\1")  # others may stay
        self.resize(*struct.unpack(">HH", self.take(4)))
        self.take(16)
        self.name = self.take(struct.unpack(">I", self.take(4))[0]).decode()
        # 32 bits a pixel, 24 deep, little endian, true colour; 8 bits each at 16, 8 and 0
        self.socket.sendall(struct.pack(">Bxxx BBBB HHH BBB xxx", 0, 32, 24, 0, 1, 255, 255, 255,
                                        16, 8, 0))
        self.socket.sendall(struct.pack(">BxH ii", 2, 2, RAW, DESKTOP_SIZE))

    def take(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            assert more, "the server closes the connection"
            data += more
        return data

    def resize(self, width, height):
        self.width, self.height = width, height
        self.picture = bytearray(4 * width * height)

    def update(self, incremental=True):
        """Asks for a picture and waits for it; returns how many pixels it has brought."""
        self.socket.sendall(struct.pack(">BBHHHH", 3, incremental, 0, 0, self.width, self.height))
        while self.take(1) != b"\0":
            raise AssertionError("a message that was not asked for")
        pixels = 0
        for _ in range(struct.unpack(">xH", self.take(3))[0]):
            x, y, width, height, encoding = struct.unpack(">HHHHi", self.take(12))
            if encoding == DESKTOP_SIZE:
                self.resize(width, height)
                continue
            assert encoding == RAW
            pixels += width * height
            for line in range(y, y + height):
                at = 4 * (line * self.width + x)
                self.picture[at:at + 4 * width] = self.take(4 * width)
        return pixels

    def key(self, keysym, down):
        self.socket.sendall(struct.pack(">BBxxI", 4, down, keysym))

    def pointer(self, x, y, buttons=0):
        self.socket.sendall(struct.pack(">BBHH", 5, buttons, x, y))

    def close(self):
        self.socket.close()
