#!/bin/sh
# What the soak does, once per round, in the guest and on the host (soak.py, chroot'ed into the same
# root file system). Prints `soak: SEED STEP CHECKSUM` for each step, where the checksum depends on
# nothing but the seed and the files of the root file system; a step that fails shows its last lines.
#
#     work.sh SEED
set -u
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
seed=$1
here=$(dirname "$0")
dir=$(mktemp -d /var/tmp/soak.XXXXXX)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

# What a step prints, and its status, are its checksum.
step()
{
    name=$1
    shift
    sum=$({
        "$@" 2>&1
        echo "status $?"
    } | tee "$dir/last" | sha256sum | cut -c 1-32)
    echo "soak: $seed $name $sum"
    [ "$(tail -n 1 "$dir/last")" = "status 0" ] || tail -n 20 "$dir/last"
}

# The small program, compiled in two ways, must be the same file and have the same results everywhere.
compile()
{
    gcc "$@" -Wall -pthread -o program "$here/program.c" -lm && sha256sum program && ./program "$seed"
}

# Many files, by a parallel make: compilers, shells and pipes.
many_files()
{
    i=0
    objects=
    while [ $i -lt 12 ]; do
        {
            echo "unsigned f$i(unsigned x) {"
            awk -v s="$seed$i" 'BEGIN { srand(s); for (i = 0; i < 60; i++)
                printf "x = x * %du + (x >> %d); if (x %% %d == 0) x ^= %du;\n",
                    rand() * 1e6, 1 + rand() * 30, 3 + rand() * 90, rand() * 1e6 }'
            echo "return x; }"
        } >f$i.c
        objects="$objects f$i.o"
        i=$((i + 1))
    done
    echo "libf.a: $objects" >Makefile
    printf '\tar rcD $@ $^\n' >>Makefile
    make -s -j2 CFLAGS=-O2 && sha256sum libf.a
}

tree()
{
    tar -C / --sort=name --mtime=@0 -cf tree.tar usr/lib/python3.11 usr/include || return 1
    sha256sum tree.tar
    gzip -6n <tree.tar >tree.gz && sha256sum tree.gz && gzip -dc tree.gz | cmp - tree.tar
    head -c 4000000 tree.tar | xz -2 -T2 >part.xz && sha256sum part.xz && xz -dc part.xz | sha256sum
    mkdir copy && tar -C copy -xf tree.tar
    find copy -type f -print0 | sort -z | xargs -0 -P 2 -n 4000 cat | wc -c
    find copy -type f -print0 | sort -z | xargs -0 -n 100 sha256sum | sha256sum
    rm -rf copy tree.tar tree.gz part.xz
}

usr_checksums()
{
    find /usr/bin /usr/lib/x86_64-linux-gnu -type f -print0 | sort -z | xargs -0 -n 50 md5sum | md5sum
}

pipes()
{
    seq "$seed" 60000 | awk '{ print $1 * 7919 % 10007 }' | sort -n | uniq -c | sort -rn | tr 0-9 b-k | sha1sum
}

processes()
{
    i=0
    while [ $i -lt 300 ]; do
        (/bin/true && /bin/echo $i | /bin/cat) &
        [ $((i % 8)) != 7 ] || wait
        i=$((i + 1))
    done | sort -n | cksum
}

step compile-sse compile -O2
step compile-avx compile -O3 -march=x86-64-v3 -ffp-contract=off
step compile-many many_files
step tree tree
step checksums usr_checksums
step pipes pipes
step processes processes
step python python3 "$here/work.py" "$seed"
step perl perl "$here/work.pl" "$seed"
