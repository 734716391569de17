version 1.0

struct Region {
  String chromosome
  Int start
  Int? end
}

struct Sample {
  String id
  File text
  File? index
  Array[Region] regions
}
