"""VNC clients: a small one (RFB 3.8, RFC 6143: raw pictures, resizing, keys and the pointer), and a real
one."""

import socket
import struct
import subprocess

from PIL import Image

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


def free_display():
    """A display number whose port is free now."""
    for number in range(50, 1000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", 5900 + number))
                return number
            except OSError:
                continue
    raise AssertionError("no port is free")


def capture(number, path, timeout):
    """The picture that a real client gets from a display; `path` is where it keeps it."""
    subprocess.run(["gvnccapture", f"127.0.0.1:{number}", path], check=True,
                   stdout=subprocess.DEVNULL, timeout=timeout)
    return Image.open(path).convert("RGB")


def same_but_for_the_cursor(one, other):
    """Whether two pictures of a VGA text screen show the same; the cursor blinks."""
    return one.size == other.size and sum(
        a != b for a, b in zip(one.getdata(), other.getdata())) <= 9 * 16
