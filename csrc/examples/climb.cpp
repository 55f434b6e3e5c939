// climb.cpp: what inputs would make a model's answer larger, by its derivatives: steepest ascent in C++17.
//
//     climb MODEL COLUMN STEPS RATE NUMBER...
//
// NUMBER... is where it begins.  Each line that it prints has the column's value, then the inputs.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "pymlp.h"

struct FreeModel {
    void operator()(pymlp_model *model) const { pymlp_model_free(model); }
};
using Model = std::unique_ptr<pymlp_model, FreeModel>;

static Model load(const std::string &path) {
    std::string message(500, '\0');
    pymlp_model *model = nullptr;
    if (pymlp_model_load(&model, path.c_str(), message.data(), static_cast<int64_t>(message.size())) != PYMLP_OK)
        throw std::runtime_error(message.c_str());
    return Model(model);
}

// Values and gradient of one row; Number is the model's type.
template <typename Number>
static void climb(pymlp_model *model, std::size_t column, int steps, double rate, const std::vector<double> &start) {
    const auto columns = static_cast<std::size_t>(pymlp_model_columns(model));
    std::vector<Number> x(start.begin(), start.end()), values(columns), gradient(columns * x.size());
    if (column >= columns) throw std::out_of_range("the model has " + std::to_string(columns) + " columns");
    for (int step = 0; step <= steps; step++) {
        const int code = pymlp_value_and_gradient(model, x.data(), 1, values.data(), gradient.data());
        if (code != PYMLP_OK) throw std::runtime_error(pymlp_error_text(code));
        std::printf("%.9g", static_cast<double>(values[column]));
        for (const Number number : x) std::printf(" %.9g", static_cast<double>(number));
        std::printf("\n");
        for (std::size_t i = 0; i < x.size(); i++)
            x[i] += static_cast<Number>(rate) * gradient[column * x.size() + i];
    }
}

int main(int count, char **arguments) try {
    if (count < 6) throw std::invalid_argument("usage: climb MODEL COLUMN STEPS RATE NUMBER...");
    const Model model = load(arguments[1]);
    std::vector<double> start;
    for (int i = 5; i < count; i++) start.push_back(std::atof(arguments[i]));
    if (static_cast<int64_t>(start.size()) != pymlp_model_inputs(model.get()))
        throw std::invalid_argument("the model has " + std::to_string(pymlp_model_inputs(model.get())) + " inputs");
    const auto column = static_cast<std::size_t>(std::atoi(arguments[2]));
    const int steps = std::atoi(arguments[3]);
    if (pymlp_model_dtype(model.get()) == 32)
        climb<float>(model.get(), column, steps, std::atof(arguments[4]), start);
    else
        climb<double>(model.get(), column, steps, std::atof(arguments[4]), start);
    return 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
