version 1.0

# A stand-in for a germline pipeline: it takes reads and gives a VCF without variants.
workflow germline {
  input {
    File fastq_1
    File fastq_2
    String sample = "sample"
  }
  parameter_meta {
    fastq_1: "First reads of each pair"
    fastq_2: "Second reads of each pair"
    sample: "The sample's name"
  }
  call count_reads { input: fastqs = [fastq_1, fastq_2] }
  call write_vcf { input: reads = count_reads.reads, sample = sample }
  output {
    File vcf = write_vcf.vcf
    Int reads = count_reads.reads
  }
}

task count_reads {
  input { Array[File] fastqs }
  command <<<
    for fastq in ~{sep=" " fastqs}; do
      case "$fastq" in *.gz) gzip -dc "$fastq" ;; *) cat "$fastq" ;; esac
    done | awk 'END { print int(NR / 4) }'
  >>>
  output { Int reads = read_int(stdout()) }
  runtime { docker: "debian"  cpu: 2  memory: "4 GiB" }
}

task write_vcf {
  input { Int reads  String sample }
  command <<<
    printf '##fileformat=VCFv4.2\n##reads=%s\n' ~{reads} > ~{sample}.vcf
    printf '#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\t%s\n' ~{sample} >> ~{sample}.vcf
  >>>
  output { File vcf = "~{sample}.vcf" }
  runtime { docker: "debian"  cpu: 2  memory: "4 GiB" }
}
