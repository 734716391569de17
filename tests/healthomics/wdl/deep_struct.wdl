version 1.1

struct Lane {
  Int number
  Pair[File, File] reads
}

struct Library {
  String name
  Array[Lane]+ lanes
  Map[String, Array[String]] notes
}

workflow deep_struct {
  input {
    Map[String, Library] libraries
    Array[Array[Pair[String, Int]]] grid
  }
  scatter (entry in as_pairs(libraries)) {
    scatter (lane in entry.right.lanes) {
      call join { input: name = "~{entry.left}-~{lane.number}", reads = lane.reads }
    }
  }
  output {
    Array[Array[File]] joined = join.out
    Array[Array[Pair[String, Int]]] same = grid
    Map[String, Library] back = libraries
  }
}

task join {
  input {
    String name
    Pair[File, File] reads
  }
  command <<<
    cat "~{reads.left}" "~{reads.right}" > "~{name}.txt"
  >>>
  output {
    File out = "~{name}.txt"
  }
}
