"""The soak's Python step: floating point, big integers, regular expressions, hashes, threads and
processes. Prints what it computes; the seed is the argument."""

import decimal
import hashlib
import json
import math
import multiprocessing
import random
import re
import sys
import threading
import zlib

seed = int(sys.argv[1])
source = random.Random(seed)


def square_root(number):
    return sum(math.sqrt(number + i) * math.sin(i) for i in range(20000))


def main():
    print(sum(math.exp(-source.random()) * math.atan2(source.random(), 1) for _ in range(50000)))
    print(hashlib.sha256(str(3 ** (9000 + seed)).encode()).hexdigest())
    decimal.getcontext().prec = 300
    print(decimal.Decimal(2 + seed).sqrt(), decimal.Decimal(seed + 1).exp())

    words = ["".join(source.choices("abcdefgh", k=source.randint(1, 12))) for _ in range(20000)]
    text = json.dumps({word: words.count(word) if i < 50 else i for i, word in enumerate(words)})
    print(len(re.findall(r"\b(a[bc]+|d.*?e)\b", text)), zlib.crc32(text.encode()))
    print(sorted(json.loads(text))[seed::1999])
    print(zlib.adler32(zlib.decompress(zlib.compress(text.encode(), 9))))

    sums = [0] * 4
    def add(number):
        for i in range(50000):
            sums[number] += i ^ number
    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sums)
    with multiprocessing.Pool(2) as pool:
        print(pool.map(square_root, range(seed, seed + 8)))


if __name__ == "__main__":
    main()
