# Cuts all genomes into parts of `width` bases: FOLDER/1.txt, 2.txt, … with NAME<TAB>FIRST<TAB>BASES.
{
    for (first = 1; first <= length($2); first += width)
        print $1 "\t" first "\t" substr($2, first, width) > (folder "/" (1 + (first - 1) / width) ".txt")
}
