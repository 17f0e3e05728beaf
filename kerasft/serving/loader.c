/* Loads a SavedModel through TensorFlow's C API, as TensorFlow Serving's loader does, and answers
   requests.

     loader EXPORT REQUESTS ANSWERS [LIBRARY...]

   REQUESTS and ANSWERS hold, in this machine's byte order:
     u32 calls; for each call u32 inputs, u32 outputs; for each input a name and a tensor; for each
     output a name (in ANSWERS: for each call u32 outputs, and a tensor each).
   A name is u32 length and bytes, such as "serving_default_text:0". A tensor is u32 dtype, u32
   dims, u64 for each of them, u64 bytes, and its content; that of strings is u64 length and bytes
   for each of them. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tensorflow/c/c_api.h>
#include <tensorflow/c/tf_tstring.h>

#define MOST 64

static void fail(const char *what, const char *why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

static void check(const char *what, TF_Status *status) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static void get(FILE *file, void *into, size_t size) {
  if (size && fread(into, 1, size, file) != size) fail("requests", "the file ends too early");
}

static void put(FILE *file, const void *from, size_t size) {
  if (size && fwrite(from, 1, size, file) != size) fail("answers", "the file cannot be written");
}

static uint32_t get32(FILE *file) {
  uint32_t value;
  get(file, &value, sizeof value);
  return value;
}

static uint64_t get64(FILE *file) {
  uint64_t value;
  get(file, &value, sizeof value);
  return value;
}

static void put32(FILE *file, uint32_t value) { put(file, &value, sizeof value); }
static void put64(FILE *file, uint64_t value) { put(file, &value, sizeof value); }

static void *room(size_t size) {
  void *made = malloc(size ? size : 1);
  if (!made) fail("memory", "there is not enough");
  return made;
}

/* Reads "NAME:INDEX" and finds that output of an operation. */
static TF_Output get_place(FILE *file, TF_Graph *graph) {
  uint32_t length = get32(file);
  char *name = room((size_t)length + 1);
  get(file, name, length);
  name[length] = 0;
  char *colon = strrchr(name, ':');
  int index = 0;
  if (colon) {
    index = atoi(colon + 1);
    *colon = 0;
  }
  TF_Output place = {TF_GraphOperationByName(graph, name), index};
  if (!place.oper) fail("no such operation", name);
  if (index >= TF_OperationNumOutputs(place.oper)) fail("no such output", name);
  free(name);
  return place;
}

static TF_Tensor *get_tensor(FILE *file) {
  TF_DataType kind = (TF_DataType)get32(file);
  int64_t dims[MOST];
  uint32_t count = get32(file);
  uint64_t size, total = 1;
  if (count > MOST) fail("requests", "a tensor has too many dimensions");
  for (uint32_t i = 0; i < count; i++) {
    dims[i] = (int64_t)get64(file);
    total *= (uint64_t)dims[i];
  }
  size = get64(file);
  if (kind != TF_STRING) {
    TF_Tensor *tensor = TF_AllocateTensor(kind, dims, (int)count, size);
    if (!tensor || TF_TensorByteSize(tensor) != size) fail("requests", "a tensor has another size");
    get(file, TF_TensorData(tensor), size);
    return tensor;
  }
  TF_Tensor *tensor = TF_AllocateTensor(kind, dims, (int)count, total * sizeof(TF_TString));
  if (!tensor) fail("memory", "there is not enough");
  TF_TString *texts = TF_TensorData(tensor);
  for (uint64_t i = 0; i < total; i++) {
    uint64_t length = get64(file);
    char *text = room(length);
    get(file, text, length);
    TF_TString_Init(&texts[i]);
    TF_TString_Copy(&texts[i], text, length);
    free(text);
  }
  return tensor;
}

static void put_tensor(FILE *file, TF_Tensor *tensor) {
  uint64_t total = 1, size = TF_TensorByteSize(tensor);
  put32(file, (uint32_t)TF_TensorType(tensor));
  put32(file, (uint32_t)TF_NumDims(tensor));
  for (int i = 0; i < TF_NumDims(tensor); i++) {
    put64(file, (uint64_t)TF_Dim(tensor, i));
    total *= (uint64_t)TF_Dim(tensor, i);
  }
  put64(file, size);
  if (TF_TensorType(tensor) != TF_STRING) {
    put(file, TF_TensorData(tensor), size);
    return;
  }
  const TF_TString *texts = TF_TensorData(tensor);
  for (uint64_t i = 0; i < total; i++) {
    put64(file, TF_TString_GetSize(&texts[i]));
    put(file, TF_TString_GetDataPointer(&texts[i]), TF_TString_GetSize(&texts[i]));
  }
}

static void answer(FILE *requests, FILE *answers, TF_Graph *graph, TF_Session *session,
                   TF_Status *status) {
  TF_Output in[MOST], out[MOST];
  TF_Tensor *given[MOST], *made[MOST] = {0};
  uint32_t inputs = get32(requests), outputs = get32(requests);
  if (inputs > MOST || outputs > MOST) fail("requests", "a call has too many inputs or outputs");
  for (uint32_t i = 0; i < inputs; i++) {
    in[i] = get_place(requests, graph);
    given[i] = get_tensor(requests);
  }
  for (uint32_t i = 0; i < outputs; i++) out[i] = get_place(requests, graph);
  TF_SessionRun(session, NULL, in, given, (int)inputs, out, made, (int)outputs, NULL, 0, NULL,
                status);
  check("run", status);
  put32(answers, outputs);
  for (uint32_t i = 0; i < outputs; i++) {
    put_tensor(answers, made[i]);
    TF_DeleteTensor(made[i]);
  }
  for (uint32_t i = 0; i < inputs; i++) TF_DeleteTensor(given[i]);
}

int main(int count, char **words) {
  if (count < 4) fail("usage", "loader EXPORT REQUESTS ANSWERS [LIBRARY...]");
  TF_Status *status = TF_NewStatus();
  for (int i = 4; i < count; i++) {
    TF_LoadLibrary(words[i], status);
    check(words[i], status);
  }
  const char *tags[] = {"serve"};
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session =
      TF_LoadSessionFromSavedModel(options, NULL, words[1], tags, 1, graph, NULL, status);
  check("load", status);
  FILE *requests = fopen(words[2], "rb"), *answers = fopen(words[3], "wb");
  if (!requests || !answers) fail("files", "they cannot be opened");
  uint32_t calls = get32(requests);
  put32(answers, calls);
  for (uint32_t i = 0; i < calls; i++) answer(requests, answers, graph, session, status);
  if (fclose(answers)) fail("answers", "the file cannot be written");
  fclose(requests);
  TF_CloseSession(session, status);
  check("close", status);
  TF_DeleteSession(session, status);
  check("close", status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  printf("%s\n", TF_Version());
  return 0;
}
