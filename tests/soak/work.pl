# The soak's Perl step: hashes, regular expressions, sorting and pipes. Prints what it computes; the
# seed is the argument.
use strict;
use warnings;

my $state = 12345 + $ARGV[0];

sub random
{
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return ($state >> 8) % $_[0];
}

my %count;
my $text = "";
for (1 .. 60000) {
    my $word = join "", map { chr(97 + random(6)) } 1 .. 2 + random(5);
    $count{$word}++;
    $text .= "$word ";
}
my @order = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
print "$_ $count{$_}\n" for @order[0 .. 40];
my $matches = () = $text =~ /\b(?:a[bc]+d|(\w)\w*\1)\b/g;
(my $changed = $text) =~ s/(\w+) (\w+)/$2 $1/g;
print "$matches ", unpack("%32C*", $changed), "\n";
my $sum = 0;
$sum += sin($_) * exp(-$_ / 50000) / (1 + $_) for 1 .. 200000;
printf "%.17g\n", $sum;

open my $pipe, "-|", "echo $ARGV[0] | tr 0-9 a-j" or die "pipe: $!";
print <$pipe>;
