#pragma once
#include <cstddef>
#include <memory>
#include <utility>

/** First in, first out. Allocates when it grows beyond what it has ever held, and not otherwise. */
template <typename T>
class Ring {
 public:
  bool empty() const { return size_ == 0; }
  size_t size() const { return size_; }
  const T& front() const { return items_[first_]; }

  void Push(const T& item) {
    if (size_ == capacity_) Grow();
    items_[(first_ + size_) & (capacity_ - 1)] = item;
    size_++;
  }

  void Pop() {
    first_ = (first_ + 1) & (capacity_ - 1);
    size_--;
  }

  void Clear() { size_ = 0; }

 private:
  static constexpr size_t kLeastCapacity = 16;

  void Grow() {
    size_t capacity = capacity_ == 0 ? kLeastCapacity : 2 * capacity_;
    auto items = std::make_unique<T[]>(capacity);
    for (size_t i = 0; i < size_; i++) items[i] = items_[(first_ + i) & (capacity_ - 1)];
    items_ = std::move(items);
    capacity_ = capacity;
    first_ = 0;
  }

  std::unique_ptr<T[]> items_;
  /** A power of two. */
  size_t capacity_ = 0;
  size_t first_ = 0;
  size_t size_ = 0;
};
