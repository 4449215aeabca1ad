/* setjmp for WebAssembly, for a C library that is older than WebAssembly's exceptions. */
#ifndef WASM_SETJMP_H
#define WASM_SETJMP_H
typedef struct {
  void *id;
  unsigned label;
  struct {
    void *env;
    int val;
  } arg;
} __attribute__((aligned(16))) jmp_buf[1];
int setjmp(jmp_buf) __attribute__((returns_twice));
_Noreturn void longjmp(jmp_buf, int);
#define setjmp setjmp
#define _setjmp setjmp
#define _longjmp longjmp
#endif
