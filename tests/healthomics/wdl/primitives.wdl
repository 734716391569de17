version 1.0

workflow primitives {
  input {
    String name
    Int count
    Float rate
    Boolean loud
  }
  call greet { input: name = name, count = count, loud = loud }
  output {
    File greeting = greet.out
    String shouted = name + "!"
    Int twice = count * 2
    Float half = rate / 2
    Boolean quiet = !loud
  }
}

task greet {
  input {
    String name
    Int count
    Boolean loud
  }
  command <<<
    for i in $(seq ~{count}); do echo "~{if loud then "HELLO" else "hello"} ~{name}"; done
  >>>
  output {
    File out = stdout()
  }
}
