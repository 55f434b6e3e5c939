/* train.c: a network that learns in C, by the verbs alone: the product of two numbers, by stochastic gradient descent.
 *
 *     train
 *
 * It prints the mean loss of every tenth epoch, and what the network says of 0.5 times -0.5 in the end.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pymlp.h"

enum { INPUTS = 2, HIDDEN = 16, ROWS = 400, BATCH = 20, STEPS = ROWS / BATCH, EPOCHS = 100 };
enum { PARAMS = INPUTS * HIDDEN + HIDDEN + HIDDEN + 1 };

/* numbers in -1 .. 1, by a linear congruence */
static float drawn(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(*state >> 11) / 4503599627370496.0 - 1.0);
}

static int fail(int code) {
    fprintf(stderr, "%s\n", pymlp_error_text(code));
    return 1;
}

int main(void) {
    static float X[ROWS * INPUTS], y[ROWS], params[PARAMS], velocity[PARAMS];
    static int64_t order[ROWS], starts[STEPS + 1];
    static double coefficients[STEPS * 4], losses[STEPS];
    uint64_t state = 1;
    for (int i = 0; i < ROWS; i++) {
        X[2 * i] = drawn(&state);
        X[2 * i + 1] = drawn(&state);
        y[i] = X[2 * i] * X[2 * i + 1];
        order[i] = i;
    }
    for (int i = 0; i < PARAMS; i++) params[i] = drawn(&state);
    for (int i = 0; i <= STEPS; i++) starts[i] = (int64_t)i * BATCH;
    /* of a step's four numbers, gradient descent reads the rate alone */
    for (int i = 0; i < STEPS; i++) coefficients[4 * i] = 0.05;

    const int dense = pymlp_layer_kind("dense");
    const pymlp_layer layers[] = {
        {.kind = dense, .activation = pymlp_activation("tanh"), .inputs = INPUTS, .outputs = HIDDEN, .second = -1},
        {.kind = dense, .activation = pymlp_activation("identity"), .inputs = HIDDEN, .outputs = 1, .source = 1,
         .second = -1}};
    const pymlp_loss_rule loss = {.kind = pymlp_loss("squared_error"), .group = 1};
    const pymlp_optimizer optimizer = {.kind = pymlp_optimizer_kind("sgd"), .parameters = {0.9, 1}};

    const char *isa = pymlp_instruction_set(0);
    pymlp_plan *plan;
    int code = pymlp_plan_create(&plan, isa, 32, layers, 2, &loss, 0, 1e-4, 0, BATCH, 1, 0);
    for (int epoch = 0; epoch < EPOCHS && code == PYMLP_OK; epoch++) {
        /* Fisher and Yates's shuffle */
        for (int i = ROWS - 1; i > 0; i--) {
            const int other = (int)((double)(drawn(&state) + 1) / 2 * (i + 1)) % (i + 1);
            const int64_t kept = order[i];
            order[i] = order[other];
            order[other] = kept;
        }
        code = pymlp_train_steps(plan, &optimizer, params, velocity, (int64_t)epoch * STEPS, X, NULL, y, NULL, ROWS,
                                 order, starts, STEPS, coefficients, losses);
        double sum = 0;
        for (int i = 0; i < STEPS; i++) sum += losses[i];
        if (code == PYMLP_OK && epoch % 10 == 9) printf("epoch %d: loss %.6f\n", epoch + 1, sum / STEPS);
    }
    pymlp_plan_free(plan);
    if (code != PYMLP_OK) return fail(code);

    pymlp_predictor *predictor;
    const float row[INPUTS] = {0.5f, -0.5f};
    float out;
    code = pymlp_predictor_create(&predictor, isa, 32, layers, 2, &loss, params, 0, 1, 0);
    if (code == PYMLP_OK) code = pymlp_predictor_predict(predictor, row, 1, &out);
    pymlp_predictor_free(predictor);
    if (code != PYMLP_OK) return fail(code);
    printf("0.5 times -0.5 is %.3f\n", (double)out);
    return 0;
}
