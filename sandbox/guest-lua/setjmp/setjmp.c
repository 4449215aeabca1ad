/* The functions that the compiler calls in place of setjmp and longjmp. */
#include <stdint.h>

struct point {
  void *id;
  uint32_t label;
  struct {
    void *env;
    int val;
  } arg;
};

void __wasm_setjmp(void *env, uint32_t label, void *id) {
  struct point *point = env;
  if (!label || !id) __builtin_trap();
  point->id = id;
  point->label = label;
}

uint32_t __wasm_setjmp_test(void *env, void *id) {
  struct point *point = env;
  if (!point->label || !id) __builtin_trap();
  return point->id == id ? point->label : 0;
}

void __wasm_longjmp(void *env, int val) {
  struct point *point = env;
  point->arg.env = env;
  point->arg.val = val ? val : 1;
  __builtin_wasm_throw(1, &point->arg); /* tag 1 is a longjmp */
}
