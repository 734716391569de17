# SNP distances between a hall's isolates: NAME, NAME, number of sites at which they differ.
{
    count = 0
    for (i = 2; i <= NF; i++) if (substr($i, 1, 1) == hall) { split($i, part, "="); name[++count] = part[1]; base[count] = part[2] }
    for (i = 1; i < count; i++) for (j = i + 1; j <= count; j++) differ[i, j] += (base[i] != base[j])
}
END { for (i = 1; i < count; i++) for (j = i + 1; j <= count; j++) print name[i] "\t" name[j] "\t" differ[i, j] + 0 }
